/**
 * Programs built from published Go modules. Each folder beside this file in `go-tools/` is a module of ours that names
 * versions (go.mod) and checksums (go.sum) and nothing else; the programs land in the cache, under a name that carries a
 * digest of both, so that a change of version builds anew.
 *
 *   node lab/go-tools.ts kubernetes etcd      builds what is missing
 */
import { createHash } from "node:crypto";
import { accessSync, constants, mkdirSync, readFileSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDir, findProgram, show } from "./install.ts";

interface GoTool {
  /** Folder under go-tools/. */
  readonly module: string;
  readonly package: string;
  /** `-X` settings: programs built as somebody's dependency carry no version of their own. */
  readonly stamp?: Readonly<Record<string, string>>;
}

const kubernetesVersion = "v1.35.4";
const kubernetesStamp = {
  "k8s.io/component-base/version.gitVersion": kubernetesVersion,
  "k8s.io/component-base/version.gitMajor": "1",
  "k8s.io/component-base/version.gitMinor": "35",
  "k8s.io/client-go/pkg/version.gitVersion": kubernetesVersion,
};
const kubernetes = (program: string): GoTool => ({
  module: "kubernetes",
  package: `k8s.io/kubernetes/cmd/${program}`,
  stamp: kubernetesStamp,
});

export const goTools = {
  etcd: { module: "etcd", package: "go.etcd.io/etcd/server/v3" },
  "kube-apiserver": kubernetes("kube-apiserver"),
  "kube-controller-manager": kubernetes("kube-controller-manager"),
  kubectl: kubernetes("kubectl"),
} as const satisfies Readonly<Record<string, GoTool>>;
export type GoToolName = keyof typeof goTools;

/** What a cold build takes on two cores, in minutes: said before it begins. */
const coldMinutes: Readonly<Record<string, number>> = { etcd: 2, kubernetes: 20 };

const folder = join(dirname(fileURLToPath(import.meta.url)), "go-tools");

function pathOf(name: GoToolName, go: string): string {
  const tool: GoTool = goTools[name];
  const hash = createHash("sha256").update(readFileSync(go).length.toString()).update(JSON.stringify(tool));
  for (const file of ["go.mod", "go.sum"]) hash.update(readFileSync(join(folder, tool.module, file)));
  return join(cacheDir(), "go", `${name}-${hash.digest("hex").slice(0, 16)}`);
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function goProgram(): string {
  const go = findProgram("go");
  if (go === undefined) throw new Error("go is missing: run npm run lab:install");
  return go;
}

/** The path of a program that was built; throws where it was not and says what builds it. */
export function goTool(name: GoToolName): string {
  const path = pathOf(name, goProgram());
  if (!executable(path)) throw new Error(`${name} is not built: node lab/go-tools.ts ${name}`);
  return path;
}

/** Builds what is missing; quiet when nothing is. Two runs at once wait for each other. */
export async function buildGoTools(names: readonly GoToolName[]): Promise<void> {
  const go = goProgram();
  const missing = names.filter((name) => !executable(pathOf(name, go)));
  if (missing.length === 0) return;
  mkdirSync(join(cacheDir(), "go"), { recursive: true });
  // The kernel drops this lock when its holder dies, whatever way.
  const lock = ["flock", join(cacheDir(), "go-tools.lock"), process.execPath, fileURLToPath(import.meta.url)];
  await show([...lock, "--locked", ...missing]);
}

async function buildMissing(names: readonly GoToolName[]): Promise<void> {
  const go = goProgram();
  for (const name of names) {
    const path = pathOf(name, go);
    if (executable(path)) continue;
    const tool: GoTool = goTools[name];
    process.stderr.write(
      `lab: building ${name}; the first program of ${tool.module} takes some ${coldMinutes[tool.module]} minutes on two cores, later ones are quicker\n`,
    );
    const stamp = Object.entries(tool.stamp ?? {}).map(([variable, value]) => `-X ${variable}=${value}`);
    const fresh = `${path}.${process.pid}`;
    const build = [go, "build", "-trimpath", "-ldflags", ["-s", "-w", ...stamp].join(" "), "-o", fresh, tool.package];
    // GOWORK and GOFLAGS of the user's own work must not reach in.
    const env = { CGO_ENABLED: "0", GOWORK: "off", GOFLAGS: "", GOTOOLCHAIN: "local" };
    await show(build, env, join(folder, tool.module));
    renameSync(fresh, path);
  }
}

const isName = (text: string): text is GoToolName => Object.hasOwn(goTools, text);

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2).filter((one) => one !== "--locked");
  const wanted = args.flatMap((one) =>
    isName(one) ? [one] : Object.keys(goTools).filter((name) => isName(name) && goTools[name].module === one),
  ) as GoToolName[];
  if (wanted.length === 0) {
    process.stderr.write(`name one of ${Object.keys(goTools).join(", ")}\n`);
    process.exitCode = 2;
  } else
    try {
      await (process.argv.includes("--locked") ? buildMissing(wanted) : buildGoTools(wanted));
    } catch (problem) {
      process.stderr.write(`lab: ${problem instanceof Error ? problem.message : String(problem)}\n`);
      process.exitCode = 1;
    }
}
