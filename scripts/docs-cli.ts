/** Writes the transcripts of docs/cli.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { transcripts, withTranscripts } from './cli-transcript.js';

const PAGE = 'docs/cli.md';
writeFileSync(PAGE, withTranscripts(readFileSync(PAGE, 'utf8'), await transcripts()));
