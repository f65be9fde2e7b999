#!/usr/bin/env node
// One command: installs the locked packages into a cache folder (first time only), then runs the merchant from there.
//   node stand.mjs [--quiet] [--watch-stdin] [--install-only]
// stdout: one JSON line when everything answers. SIGTERM / SIGINT / closed stdin pipe (with --watch-stdin) stop it.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch } from "../stand/launch.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const x402 = join(here, "..", "stand");
// The chain, its token and the public test keys are those of the other stand.
launch(here, [join(x402, "src"), join(x402, "contracts"), join(here, "src")]);
