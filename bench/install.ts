/** Installs this package where it is not, or where its lock has changed since. */
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const installed = `${here}node_modules/.package-lock.json`;

if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(`${here}package-lock.json`).mtimeMs) {
  const { status } = spawnSync('npm', ['ci', '--prefix', here], { stdio: 'inherit' });
  process.exitCode = status ?? 1;
}
