/** Lines about the runner itself: 1, 2, 4, 24. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { credential, type Estate } from "../estate.ts";
import type { ExtraLook } from "../reality.ts";
import { nginx } from "../replicas.ts";
import { type Build, type Ended, type Running, startGyre } from "../rotate.ts";
import { closed, type Scene } from "../scene.ts";

const journalOf = (estate: Estate): string =>
  estate.workspace.path(".gyre", "credentials", credential, "journal.jsonl");

/** The journal as text, line by line; it is watched from outside as a file that grows. */
const linesOf = (estate: Estate): readonly string[] => {
  const path = journalOf(estate);
  return existsSync(path)
    ? readFileSync(path, "utf8")
        .split("\n")
        .filter((line) => line !== "")
    : [];
};

const start = (estate: Estate, build: Build): Running => startGyre(estate, ["rotate", credential, "--now"], build);

/** True once the journal is as asked; false when the runner ended before. */
async function until(estate: Estate, running: Running, asked: (lines: readonly string[]) => boolean): Promise<boolean> {
  let over = false;
  void running.ended.then(() => {
    over = true;
  });
  while (!over) {
    if (asked(linesOf(estate))) return true;
    await sleep(1);
  }
  return false;
}

/** What the CA's record says was issued, g1 among it: one more for a rotation, and never two. */
const oneIssue =
  (estate: Estate, record: string, before: number): ExtraLook =>
  async () => {
    const issued = readFileSync(estate.workspace.path(record, "issued.jsonl"), "utf8").match(/"issued"/g)?.length ?? 0;
    return issued === before + 1
      ? undefined
      : { at: record, what: `${issued - before} certificates were issued for one rotation` };
  };

/**
 * Kills it when its journal has grown by one line, takes it up again, kills it after two, after three, until it ends by
 * itself. (Always after the same few it would never get further than the looks that each new runner makes.)
 */
async function killedAgainAndAgain(estate: Estate, build: Build): Promise<Ended> {
  for (let growth = 1; growth < 60; growth++) {
    const running = start(estate, build);
    const before = linesOf(estate).length;
    const grown = await until(estate, running, (lines) => lines.length >= before + growth);
    if (!grown || linesOf(estate).some((line) => line.includes('"RotationClosed"'))) return running.ended;
    running.child.kill("SIGKILL");
    await running.ended;
  }
  throw new Error("killed 59 times, and it has not ended");
}

const killed = "killed before/after each write";
const killScene = (name: string, how: string, kind: "mesh" | "pinned"): Scene => ({
  ...{ line: 1, name, fault: killed, how },
  estate: () => ({ kind }),
  acts: (estate) => [
    {
      title: "killed and resumed",
      run: (build) => killedAgainAndAgain(estate, build),
      looks: [kind === "mesh" ? oneIssue(estate, "ca", 1) : oneIssue(estate, "self-signed", 0)],
      expect: closed("REFUSED"),
    },
  ],
});

export const killedReplace = killScene(
  "1 replace",
  "SIGKILL when the journal has grown by one line, resumed, killed after two, after three … (three nginx, CRL); one certificate was issued",
  "mesh",
);
export const killedOverlap = killScene(
  "1 overlap",
  "the same with pins: a self-signed client certificate, listed by three nginx",
  "pinned",
);

export const timeOutAfterEffect: Scene = {
  ...{ line: 2, name: "2", fault: "time-out after the effect happened" },
  how: "each first try of one nginx's reload command does its work, hangs, and is killed after 1 s",
  estate: () => ({ replicas: [nginx(), nginx(), nginx({ hook: true, reloadTimeout: "1s" })] }),
  acts: (estate) => {
    const slow = estate.nginx(3);
    const mark = estate.workspace.path("hung");
    const script = `${slow.hook!.usual}if [ -e ${mark} ]; then rm ${mark}; else touch ${mark}; sleep 30; fi\n`;
    return [{ title: "fault", change: () => estate.hook(slow, script), expect: closed("REFUSED") }];
  },
};

const stale = "a stale runner comes back (SIGSTOP, SIGCONT)";

export const frozenRunner: Scene = {
  ...{ line: 4, name: "4", fault: stale },
  estate: () => ({ replicas: [nginx(), nginx(), nginx({ hook: true })] }),
  how: "the runner is frozen in mid-rotation, a second one is started, the first is woken; one certificate was issued",
  acts: (estate) => {
    let first: Running | undefined;
    let before = "";
    return [
      {
        title: "second runner",
        async change() {
          first = await frozen(estate);
          before = readFileSync(journalOf(estate), "utf8");
        },
        run: (build) => start(estate, build).ended,
        looks: [
          async () =>
            readFileSync(journalOf(estate), "utf8") === before
              ? undefined
              : { at: "journal", what: "was written to by the second runner" },
        ],
        expect: { result: "error", code: "locked", words: /mesh-tls/ },
      },
      {
        title: "first woken",
        async run() {
          first!.child.kill("SIGCONT");
          return first!.ended;
        },
        looks: [oneIssue(estate, "ca", 1)],
        expect: closed("REFUSED"),
      },
    ];
  },
};

export const stolenLock: Scene = {
  ...{ line: 4, name: "4 stolen", fault: stale },
  estate: () => ({ replicas: [nginx(), nginx(), nginx({ hook: true })] }),
  how: "the same, and somebody deletes the lock file of the frozen runner, so that the second one does it all",
  acts: (estate) => {
    let first: Running | undefined;
    return [
      {
        title: "second runner",
        async change() {
          first = await frozen(estate);
          rmSync(estate.workspace.path(".gyre", "credentials", credential, "lock"));
        },
        run: (build) => start(estate, build).ended,
        looks: [oneIssue(estate, "ca", 1)],
        expect: closed("REFUSED"),
      },
      {
        title: "first woken",
        async run() {
          first!.child.kill("SIGCONT");
          return first!.ended;
        },
        expect: { result: "error", code: "conflict", evenDone: true },
      },
    ];
  },
};

/**
 * A runner stopped by SIGSTOP while it waits for a reload command: in mid-rotation, and with no lock in hand but its own
 * (one frozen while it appends or writes files keeps everybody out, rightly, and that is tested where those locks are).
 */
async function frozen(estate: Estate): Promise<Running> {
  const slow = estate.replica(3);
  const mark = estate.workspace.path("reloading");
  estate.hook(slow, `touch ${mark}\nsleep 1\n${slow.hook!.usual}`);
  const running = start(estate, "real");
  if (!(await until(estate, running, () => existsSync(mark))))
    throw new Error(`it ended too early: ${(await running.ended).out}`);
  running.child.kill("SIGSTOP");
  return running;
}

export const betweenRenameAndReload: Scene = {
  ...{ line: 24, name: "24", fault: "killed between rename and reload" },
  how: "SIGKILL when every file holds the new one and nobody was told yet",
  acts: (estate) => [
    {
      title: "killed",
      async run(build) {
        const running = start(estate, build);
        const all = (lines: readonly string[]) =>
          lines.filter((line) => /"StepDone".*"deliver"/.test(line)).length === 3;
        await until(estate, running, all);
        running.child.kill("SIGKILL");
        const ended = await running.ended;
        if (linesOf(estate).some((line) => /"StepIntended".*"reload"/.test(line)))
          throw new Error("killed too late: somebody was told to reload");
        return ended;
      },
      expect: { result: "no word" },
    },
    { title: "resumed", expect: closed("REFUSED") },
  ],
};
