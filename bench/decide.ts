import { claims } from "../src/engine/claims.ts";
import { decide } from "../src/engine/decide.ts";
import { party, Story } from "../src/engine/fixtures/given.ts";
import type { Inventory, Member } from "../src/engine/model.ts";
import type { Rotation } from "../src/engine/state.ts";
import { type Figure, figure } from "./figure.ts";

/** Half of the members present the new one: the case that has most to say. */
function held(members: number): Rotation {
  const list = (of: string): Member[] => Array.from({ length: members }, (_, n) => ({ id: `${of}-${n}`, of }));
  const story = new Story({ presenters: [party("servers")], verifiers: [party("doors", { canRefuse: true })] });
  story.upTo("adopted").does();
  const { inventory } = story.rotation;
  const all: Inventory["members"] = { ...inventory!.members, presenter: list("servers"), verifier: list("doors") };
  const late = Object.fromEntries(all.presenter.slice(members / 2).map(({ id }) => [id, "no" as const]));
  story.resolved({ members: all });
  for (const at of [0, 5, 10]) story.at(at).sees("presented", late).sees("accepted");
  return story.rotation;
}

/** A loop that does nothing but ask every member for its look. */
function bare(rotation: Rotation): number {
  let late = 0;
  for (const claim of ["presented", "accepted"] as const) {
    const looks = rotation.seen.get(claim);
    for (const { id } of rotation.inventory!.members[claims[claim].role]) if (looks?.get(id)?.saw !== "yes") late += 1;
  }
  return late;
}

/** Milliseconds of one call: the median of many, so that a busy machine does not decide. */
function median(work: () => unknown, times: number): number {
  const took = Array.from({ length: times }, () => {
    const begun = performance.now();
    work();
    return performance.now() - begun;
  });
  return took.sort((a, b) => a - b)[times >> 1]!;
}

/** One decision over 1,000 replicas beside a bare loop over them, and the cost of a member at 10,000 beside that at 1,000. */
export async function decideBench(): Promise<Figure[]> {
  const [small, large] = [held(1000), held(10_000)];
  const now = small.rounds.at(-1)!.at;
  const decided = (rotation: Rotation) => decide(rotation, now);
  if (decided(small).move !== "hold") throw new Error("the bench does not measure what it says");
  const times = 200;
  median(() => [decided(small), bare(small)], times);
  const ours = median(() => decided(small), times);
  const loop = median(() => bare(small), times);
  const perMember = [ours / 1000, median(() => decided(large), times) / 10_000] as const;
  return [
    figure("decide, 1,000 replicas", "ms", ours, loop, "a bare loop over the same members"),
    figure("decide, a replica of 10,000", "µs", perMember[1] * 1000, perMember[0] * 1000, "a replica of 1,000"),
  ];
}
