/** Writes the reference, docs/api, from the docstrings of every entry point. */
import { rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { Application, Converter, type ProjectReflection } from 'typedoc';
import tsconfig from '../tsconfig.json' with { type: 'json' };

/** Source files by the name that callers import. */
const ENTRIES = Object.entries(tsconfig.compilerOptions.paths).map(
  ([name, [file = '']]) => [name, resolve(file)] as const,
);

const app = await Application.bootstrapWithPlugins({
  plugin: ['typedoc-plugin-markdown', 'typedoc-vitepress-theme'],
  entryPoints: ENTRIES.map(([, file]) => file),
  tsconfig: 'tsconfig.src.json',
  // That is for tsc to do.
  skipErrorChecking: true,
  name: 'API',
  readme: 'none',
  excludeInternal: true,
  excludePrivate: true,
  disableSources: true,
  treatWarningsAsErrors: true,
  validation: { invalidLink: true, notExported: false, notDocumented: false },
  logLevel: 'Warn',
  out: 'docs/api',
  ...({ docsRoot: 'docs', hideBreadcrumbs: true, hidePageHeader: true } as object),
});

app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }: { project: ProjectReflection }) => {
  for (const module of project.children ?? []) {
    const file = project.getSymbolIdFromReflection(module)?.fileName;
    module.name = ENTRIES.find(([, entry]) => entry === resolve(file ?? ''))?.[0] ?? module.name;
  }
});

// What is not exported any more leaves no page behind.
rmSync('docs/api', { recursive: true, force: true });
const project = await app.convert();
if (project) {
  app.validate(project);
  await app.generateOutputs(project);
}
if (!project || app.logger.hasErrors() || app.logger.hasWarnings()) process.exitCode = 1;
