import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { makeWorkspace } from "../lab/estate.ts";
import { startNginx } from "../lab/peers/nginx.ts";
import { issue, makeAuthority } from "../lab/pki.ts";
import { createTlsPresenter } from "../src/drivers/tls/presenter.ts";
import { presenterSettings } from "../src/drivers/tls/settings.ts";

export interface HandshakeFigure {
  readonly name: string;
  readonly ours: number;
  readonly reference: number;
  /** Above 1 is faster than the reference. */
  readonly ratio: number;
  readonly unit: string;
}

const rounds = 7;
const perRound = 800;

/**
 * Full TLS 1.3 handshakes a second with one nginx, by the presenter's own probe (chain captured, judged against the
 * roots) and by a Go loop that verifies likewise; in turns, so that a busy machine slows both; the ratio is the median
 * of the rounds' ratios. nginx's own log is counted: every handshake was finished, by both.
 */
export async function benchHandshake(): Promise<HandshakeFigure[]> {
  const workspace = makeWorkspace("bench-handshake");
  try {
    const root = makeAuthority(workspace.folder("pki"), { name: "root" });
    const server = issue(root, { name: "server", key: "P-256" });
    const nginx = await startNginx(workspace, {
      ...{ name: "bench", certificate: server.chain, privateKey: server.privateKey },
      ...{ tls: ["TLSv1.3"], tickets: "off", accessLog: false },
    });
    const program = workspace.path("reference");
    execFileSync("go", ["build", "-o", program, join(import.meta.dirname, "go/handshake/main.go")]);
    const finished = () => readFileSync(nginx.errorLog, "latin1").split("while waiting for request").length - 1;
    const figures: HandshakeFigure[] = [];
    for (const concurrency of [1, 16]) {
      const ours: number[] = [];
      const reference: number[] = [];
      await probeAll(nginx.address, root.certificate, 200, concurrency); // warm, as the reference does for itself
      for (let round = 0; round < rounds; round++) {
        const before = finished();
        ours.push(await probeAll(nginx.address, root.certificate, perRound, concurrency));
        await counted(finished, before + perRound);
        const args = [nginx.address, "localhost", root.certificate, String(perRound), String(concurrency)];
        reference.push(Number(execFileSync(program, args, { encoding: "utf8" })));
        await counted(finished, before + 2 * perRound + 200);
      }
      figures.push(figure(concurrency, ours, reference));
    }
    await nginx.stop();
    return figures;
  } finally {
    await workspace.end();
  }
}

/** Seconds for so many probes, so many at once. */
async function probeAll(address: string, rootsFile: string, count: number, concurrency: number): Promise<number> {
  const presenter = createTlsPresenter(presenterSettings.parse({ addresses: [address], serverName: "localhost" }));
  const [member] = await presenter.members();
  const roots = readFileSync(rootsFile, "utf8");
  const step = { op: "bench", tag: "bench.1", signal: new AbortController().signal };
  let left = count;
  const began = performance.now();
  const one = async () => {
    while (left-- > 0) {
      const result = await presenter.probe(member!, roots, step);
      if (result.saw !== "presented" || result.problem !== undefined) throw new Error(JSON.stringify(result));
    }
  };
  await Promise.all(Array.from({ length: concurrency }, one));
  return (performance.now() - began) / 1000;
}

/** nginx writes the line when it sees the close, a moment after us. */
async function counted(finished: () => number, wanted: number): Promise<void> {
  const until = performance.now() + 5_000;
  while (finished() < wanted) {
    if (performance.now() > until) throw new Error(`nginx saw ${finished()} finished handshakes of ${wanted}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

function figure(concurrency: number, ours: readonly number[], reference: readonly number[]): HandshakeFigure {
  const ratios = ours.map((seconds, round) => reference[round]! / seconds);
  return {
    name: `full TLS 1.3 handshakes, chain captured and verified, ${concurrency} at once, against a Go loop`,
    ours: Math.round(perRound / median(ours)),
    reference: Math.round(perRound / median(reference)),
    ratio: Math.round(median(ratios) * 100) / 100,
    unit: "handshakes/s",
  };
}

if (import.meta.main) process.stdout.write(`${JSON.stringify(await benchHandshake(), null, 2)}\n`);
