/** Whoever ships a package within a bundle ships its licence: those of exactly the packages that are in the output. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Options } from 'tsup';

type Plugin = NonNullable<Options['esbuildPlugins']>[number];

/** A step of the build that writes the licences into a file beside its output. */
export function licensesOf(file: string): Plugin {
  return {
    name: 'licenses',
    setup({ initialOptions, onEnd }) {
      initialOptions.metafile = true;
      onEnd(async ({ metafile, errors }) => {
        if (errors.length > 0) return;
        if (!metafile) throw new Error('The build does not tell what is in its output');
        const inputs = Object.values(metafile.outputs).flatMap((output) => Object.keys(output.inputs));
        const folders = inputs.flatMap((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? []);
        const texts = await Promise.all([...new Set(folders)].sort().map(licenseIn));
        await writeFile(join(initialOptions.outdir ?? '.', file), texts.join(`\n\n${'-'.repeat(80)}\n\n`));
      });
    },
  };
}

/** @throws Error where the package has no file of its licence: it may not be bundled then */
async function licenseIn(folder: string): Promise<string> {
  const { name, version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
  const license = (await readdir(folder)).find((entry) => /^licen[cs]e([-.][\w]+)*$/i.test(entry));
  if (license === undefined) throw new Error(`${name} is bundled and has no file of its licence`);
  return `${name} ${version}\n\n${(await readFile(join(folder, license), 'utf8')).trim()}\n`;
}
