#!/usr/bin/env node
// One command: installs the locked packages into a cache folder (first time only), then runs the stand from there.
//   node stand.mjs [--block-time S] [--settle-delay MS] [--quiet] [--watch-stdin] [--install-only]
// stdout: one JSON line when everything answers. SIGTERM / SIGINT / closed stdin pipe (with --watch-stdin) stop it.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch } from "./launch.mjs";

const here = dirname(fileURLToPath(import.meta.url));
launch(here, [join(here, "src"), join(here, "contracts")]);
