// Compiles Stand.sol into artifacts.json (runtime code only). Needs the compiler:
//   npm install --no-save solc@0.8.37 && node contracts/build.mjs
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
const solc = createRequire(process.cwd() + "/x.js")("solc");
const here = new URL(".", import.meta.url);
const out = JSON.parse(
  solc.compile(
    JSON.stringify({
      language: "Solidity",
      sources: { "Stand.sol": { content: readFileSync(new URL("Stand.sol", here), "utf8") } },
      settings: {
        evmVersion: "paris",
        viaIR: true,
        optimizer: { enabled: true, runs: 200 },
        metadata: { bytecodeHash: "none", appendCBOR: false },
        outputSelection: { "*": { "*": ["evm.deployedBytecode.object"] } },
      },
    }),
  ),
);
for (const e of out.errors ?? []) console.error(e.formattedMessage);
if (out.errors?.some(e => e.severity === "error")) process.exit(1);
const code = {};
for (const name of ["StandUSDC", "StandPermit2", "StandExactProxy", "StandUptoProxy"])
  code[name] = "0x" + out.contracts["Stand.sol"][name].evm.deployedBytecode.object;
writeFileSync(new URL("artifacts.json", here), JSON.stringify({ compiler: solc.version(), code }, null, 1) + "\n");
console.log(Object.entries(code).map(([k, v]) => `${k} ${(v.length - 2) / 2} bytes`).join("\n"));
