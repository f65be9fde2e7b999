#!/usr/bin/env node
// One command: installs the locked packages into a cache folder (first time only), then runs from there.
//   node stand.mjs --facilitator URL --rpc URL [--watch-stdin]     the server; stdout: one JSON line when it answers
//   node stand.mjs client.mjs URL CALL…                            an official client; stdout: one JSON line a call
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch } from "../stand/launch.mjs";

const here = dirname(fileURLToPath(import.meta.url));
launch(here, [join(here, "src")]);
