/**
 * `npm start`: the main job on a small estate that a newcomer can see whole. Three TLS servers with mutual TLS, one of
 * which, drawn at random, ignores its reload; Gyre is never told which. Everything below is what an operator would do:
 * the manifest is a file, Gyre is the command line, the servers are processes of their own.
 */
import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { connects, freePort, makeWorkspace, type Supervised, type Workspace } from "../estate.ts";
import { gyre, gyreProgram } from "../gyre.ts";
import { prepare, type Replica } from "./prepare.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const serverProgram = join(root, "lab", "servers", "node-tls.ts");
const credential = "mesh-tls";

const say = (text = ""): void => void process.stdout.write(`${text}\n`);
const heading = (text: string): void => say(`\n${process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text}`);

/** Runs the command line as a person would, its output straight to the terminal; gives its exit code. */
async function runGyre(home: string, ...args: string[]): Promise<number> {
  say(`\n$ gyre ${args.join(" ")}`);
  const child = spawn(process.execPath, [gyreProgram, ...args], { cwd: home, stdio: ["ignore", "inherit", "inherit"] });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? 1));
  });
}

function startServer(workspace: Workspace, replica: Replica, ignoreReload: boolean): Promise<Supervised> {
  const { dir, port } = replica;
  const flags = ignoreReload ? ["--ignore-reload"] : [];
  return workspace.start({
    name: replica.name,
    command: [
      ...[process.execPath, serverProgram, "--listen", replica.address, "--pid-file", join(dir, "server.pid")],
      ...[
        "--cert",
        join(dir, "tls.pem"),
        "--key",
        join(dir, "tls.key"),
        "--ca",
        join(dir, "ca.pem"),
        "--crl",
        join(dir, "ca.crl"),
        ...flags,
      ],
    ],
    ready: () => connects("127.0.0.1", port),
  });
}

/** What the check below needs of `gyre status --json`. */
interface Status {
  readonly credentials: readonly {
    readonly name: string;
    readonly active?: { readonly held?: { readonly reasons: readonly { readonly about: string }[] } };
  }[];
}

function must(condition: boolean, what: string): void {
  if (!condition) throw new Error(`the first run did not go as it should: ${what}`);
}

async function main(): Promise<void> {
  const began = Date.now();
  const home = mkdtempSync(join(tmpdir(), "gyre-first-run-"));
  const workspace = makeWorkspace("first-run-servers");
  try {
    const replicas: Replica[] = [];
    for (const name of ["replica-1", "replica-2", "replica-3"]) {
      const port = await freePort();
      const dir = join(home, name);
      mkdirSync(dir);
      replicas.push({ name, port, dir, address: `127.0.0.1:${port}` });
    }
    heading("An estate: three TLS servers that ask each other for certificates");
    writeFileSync(join(home, "gyre.yaml"), await prepare(home, replicas));
    const deaf = replicas[randomInt(replicas.length)]!;
    const servers = new Map<Replica, Supervised>();
    for (const replica of replicas) {
      servers.set(replica, await startServer(workspace, replica, replica === deaf));
      say(
        `  ${replica.name}  ${replica.address}  pid ${servers.get(replica)!.pid}${replica === deaf ? "   <- drawn: ignores its reload. Gyre is not told" : ""}`,
      );
    }
    say(`  manifest  ${join(home, "gyre.yaml")}`);

    heading("Rotate. It must not say done");
    must(
      (await runGyre(home, "rotate", credential, "--now")) === 3,
      "a replica ignored its reload, and the rotation did not hold (exit code 3)",
    );
    const status = JSON.parse((await gyre(home, "status", "--json")).out) as Status;
    const held = status.credentials.find(({ name }) => name === credential)?.active?.held;
    const named = [...new Set(held?.reasons.map((reason) => reason.about))];
    must(named.length === 1 && named[0] === deaf.address, `the hold names ${named.join(", ")}, not ${deaf.address}`);
    say(`\n  It names ${deaf.address}, which is the one that was drawn.`);

    heading(`Repair: ${deaf.name} is started again, as an operator would`);
    await servers.get(deaf)!.stop();
    servers.set(deaf, await startServer(workspace, deaf, false));
    say(`  ${deaf.name}  ${deaf.address}  pid ${servers.get(deaf)!.pid}`);

    heading("The same rotation goes on");
    must((await runGyre(home, "rotate", credential)) === 0, "the repaired rotation did not close");

    heading("The receipt, checked without the estate");
    must(
      (await runGyre(home, "verify", join(".gyre", "receipts", "0.json"), "--key", join(".gyre", "signing.pub"))) === 0,
      "the receipt does not verify",
    );

    heading(`Done in ${Math.round((Date.now() - began) / 1000)} s. Everything is in ${home}`);
    say("  Try next, from here (the servers have been stopped):");
    say(`    npx gyre -f ${home} show ${credential}       every look, step and hold, with its evidence`);
    say(`    npx gyre -f ${home} status`);
    say(`    npx gyre verify ${home}/.gyre/receipts/0.json --key ${home}/.gyre/signing.pub`);
    say("                                             ... flip any byte in it first, and it says so");
    say("  For servers of your own: docs/manifest.md, and examples/nginx as a pattern");
  } finally {
    await workspace.end();
  }
}

await main();
