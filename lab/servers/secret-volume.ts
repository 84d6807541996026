/**
 * Stands in for the part of kubelet that keeps a Secret volume: writes the Secret's keys into a folder the way kubelet's
 * AtomicWriter does (a new folder, `..data` switched by rename), again at every change, or with `once` only at the start,
 * as it is for a subPath mount. The lab has no kubelet; everything else about the pod is real.
 *
 *   secret-volume.ts KUBECTL KUBECONFIG NAMESPACE SECRET FOLDER follow|once [RELOAD COMMAND...]
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readlinkSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const [kubectl, kubeconfig, namespace, secret, folder, mode, ...reload] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
  string,
  ...string[],
];
const get = ["--kubeconfig", kubeconfig, "-n", namespace, "get", "secret", secret, "-o", "json"];

interface Seen {
  readonly metadata: { readonly resourceVersion: string };
  readonly data?: Readonly<Record<string, string>>;
}

function write({ metadata, data = {} }: Seen): void {
  const fresh = `..${metadata.resourceVersion}.${process.hrtime.bigint()}`;
  mkdirSync(join(folder, fresh), { recursive: true, mode: 0o700 });
  for (const [key, value] of Object.entries(data))
    writeFileSync(join(folder, fresh, key), Buffer.from(value, "base64"), { mode: 0o600 });
  const link = join(folder, "..data");
  const before = existsSync(link) ? readlinkSync(link) : undefined;
  symlinkSync(fresh, `${link}.tmp`);
  renameSync(`${link}.tmp`, link);
  for (const key of Object.keys(data))
    if (!existsSync(join(folder, key))) symlinkSync(join("..data", key), join(folder, key));
  if (before !== undefined) rmSync(join(folder, before), { recursive: true, force: true });
  process.stdout.write(`wrote ${metadata.resourceVersion}\n`);
  // The server of a new pod is not up yet when its volume is first written.
  const [program, ...args] = reload;
  if (before !== undefined && program !== undefined) spawnSync(program, args, { stdio: "inherit" });
}

const first = spawnSync(kubectl, get, { encoding: "utf8" });
if (first.status !== 0) {
  process.stderr.write(first.stderr);
  process.exit(1);
}
let last = JSON.parse(first.stdout) as Seen;
write(last);
if (mode === "once") setInterval(() => {}, 60_000);
else follow();

function follow(): void {
  const child = spawn(kubectl, [...get, "--watch"], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
    // kubectl prints one indented document after the other; each ends with a brace at the margin.
    for (let end = text.indexOf("\n}\n"); end >= 0; end = text.indexOf("\n}\n")) {
      const seen = JSON.parse(text.slice(0, end + 2)) as Seen;
      text = text.slice(end + 3);
      if (seen.metadata.resourceVersion === last.metadata.resourceVersion) continue;
      last = seen;
      write(seen);
    }
  });
  // The API server ends every watch after a while.
  child.once("close", () => setTimeout(follow, 200));
}
