// Installs the locked packages of a stand into a cache folder (first time only), then runs the stand from there.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { basename, join } from "node:path";


// `here`: the folder with the lock file. `folders`: what is copied beside its packages; of the same name, one over the other.
export function launch(here, folders) {
  const lock = readFileSync(join(here, "package-lock.json"));
  const root = process.env.FAREPASS_STAND_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "farepass", "stand");
  const cache = join(root, createHash("sha256").update(lock).digest("hex").slice(0, 12));

  if (!existsSync(join(cache, "installed"))) {
    const tmp = `${cache}.${process.pid}`;
    mkdirSync(tmp, { recursive: true });
    for (const f of ["package.json", "package-lock.json"]) cpSync(join(here, f), join(tmp, f));
    process.stderr.write(`stand: installing packages into ${cache} (first run only)\n`);
    const npm = spawnSync("npm", ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: tmp, stdio: ["ignore", 2, 2],
    });
    if (npm.status !== 0) {
      rmSync(tmp, { recursive: true, force: true });
      process.exit(npm.status ?? 1);
    }
    writeFileSync(join(tmp, "installed"), "");
    try {
      renameSync(tmp, cache);
    } catch {
      rmSync(tmp, { recursive: true, force: true }); // another process was first
    }
  }
  if (process.argv.includes("--install-only")) process.exit(0);

  // Bare imports resolve upwards from the file, so the sources run from a folder inside the cache.
  for (const d of readdirSync(cache).filter(d => d.startsWith("run-"))) {
    try {
      process.kill(Number(d.slice(4)), 0); // still alive?
    } catch (e) {
      if (e.code === "ESRCH") rmSync(join(cache, d), { recursive: true, force: true });
    }
  }
  const run = join(cache, `run-${process.pid}`);
  mkdirSync(run, { recursive: true });
  for (const folder of folders) cpSync(folder, join(run, basename(folder)), { recursive: true });
  const clean = () => rmSync(run, { recursive: true, force: true });

  const script = process.argv[2]?.endsWith(".mjs") ? process.argv[2] : "main.mjs"; // e.g. `stand.mjs pay.mjs URL`
  const args = script === "main.mjs" ? process.argv.slice(2) : process.argv.slice(3);
  const child = spawn(process.execPath, [join(run, "src", script), ...args], { stdio: ["pipe", "inherit", "inherit"] });
  for (const sig of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(sig, () => child.kill(sig));
  if (args.includes("--watch-stdin")) {
    process.stdin.resume();
    process.stdin.on("end", () => child.kill("SIGTERM"));
  }
  child.on("exit", (code, sig) => {
    clean();
    process.exit(code ?? (sig ? 0 : 1));
  });
}
