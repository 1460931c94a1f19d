/** Writes src/redis/scripts.generated.ts from lua/, so that nothing is read from disk at run time. */
import { writeFileSync } from 'node:fs';
import { bundleLua, renderScripts } from './lua-bundle.js';

writeFileSync('src/redis/scripts.generated.ts', renderScripts(bundleLua('lua')));
