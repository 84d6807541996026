import { spawnSync } from "node:child_process";
import { gyreProgram } from "../lab/gyre.ts";
import { type Figure, figure } from "./figure.ts";

const rounds = 15;

/** Median milliseconds and peak memory (MB) of a process from start to end, by GNU time where it is there. */
function measure(args: readonly string[]): { ms: number; mb: number } {
  const times: number[] = [];
  const sizes: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const from = performance.now();
    const ran = spawnSync(process.execPath, [...args], { encoding: "utf8" });
    times.push(performance.now() - from);
    if (ran.status !== 0) throw new Error(`${args.join(" ")}: ${ran.stderr}`);
    const report = spawnSync(process.execPath, ["-e", peakOf(args)], { encoding: "utf8" });
    sizes.push(Number(report.stdout));
  }
  return { ms: median(times), mb: median(sizes) };
}

/** Runs it as the only child and reads its peak resident size from the kernel's count for ended children. */
const peakOf = (args: readonly string[]): string =>
  `const c=require("node:child_process").spawn(process.execPath,${JSON.stringify(args)},{stdio:"ignore"});let m=0;` +
  `const read=()=>{try{const s=require("node:fs").readFileSync("/proc/"+c.pid+"/status","utf8");m=Math.max(m,Number(/VmHWM:\\s+(\\d+)/.exec(s)?.[1]??0))}catch{}};` +
  `const t=setInterval(read,1);c.on("exit",()=>{clearInterval(t);process.stdout.write(String(m/1024))});`;

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

export async function startBench(): Promise<Figure[]> {
  const bare = measure(["-e", "0"]);
  const ours = measure([gyreProgram, "--version"]);
  return [
    figure("gyre --version, cold start", "ms", ours.ms, bare.ms, "node -e 0"),
    figure("gyre --version, peak memory", "MB", ours.mb, bare.mb, "node -e 0"),
  ];
}
