import { describe, expect, it, test } from "vitest";
import { canPutBack, currentStage, decide, goesBack, type Move } from "./decide.ts";
import { claimsAbout, openClaims, waivedMembers } from "./finding.ts";
import { type Change, day, generation, minute, ordinary, party, Story, second, zero } from "./fixtures/given.ts";
import type { ClaimName, StageName } from "./model.ts";

/** Given a story, when it is decided at a second, then this. Names tell the situation. */

const overlapping = { pinned: true, trustStores: [party("pins", { reload: "command" })] };
const later = (seconds: number): number => zero + seconds * second;
const claimsLookedAt = (move: Move): string[] => (move.move === "observe" ? move.looks.map((look) => look.claim) : []);
const reasonsIn = (move: Move) => (move.move === "hold" ? move.reasons : []);

/** At the gate of the removal, everything seen, nothing taken away. */
const beforeRemoval = (change: Change = {}): Story => new Story(change).upTo("revoked");
/** The same with everything seen that the removal asks for. */
const ready = (change: Change = {}): Story => beforeRemoval(change).sees("stored").sees("acceptedOld").sees("silent");

describe("perform", () => {
  test("nothing done yet: the first stage has no step and passes, the second issues", () => {
    const story = new Story();
    expect(story.decides()).toEqual({ move: "pass", stage: "planned" });
    expect(story.passed("planned").decides()).toEqual({
      move: "perform",
      stage: "issued",
      step: { kind: "issue", on: "ca", generation: 2 },
      op: "shop/1/issued/issue/ca#1",
      attempt: 1,
    });
  });

  test("two targets: one write per move, in the order of the plan", () => {
    const story = new Story({ targets: [party("a"), party("b")] }).upTo("delivered");
    expect(story.decides()).toMatchObject({ move: "perform", step: { kind: "deliver", on: "a" } });
    expect(story.does().decides()).toMatchObject({ move: "perform", step: { kind: "deliver", on: "b" } });
  });

  test("a target that watches its files is not told to reload", () => {
    const story = new Story({ targets: [party("a", { reload: "watch" }), party("b", { reload: "signal" })] });
    expect(story.upTo("adopted").decides()).toMatchObject({ move: "perform", step: { kind: "reload", on: "b" } });
  });

  test("the first step of a removal is performed only in the inventory that was looked at", () => {
    const story = ready();
    const move = story.decides();
    expect(move).toMatchObject({ move: "perform", step: { kind: "retire" }, confirm: story.rotation.epoch });
    expect(story.does().decides()).not.toHaveProperty("confirm");
  });

  test("overlap: admitted and accepted before it is delivered", () => {
    const kinds: string[] = [];
    const story = new Story(overlapping);
    for (let move = story.decides(); move.move !== "close"; move = story.decides()) {
      if (move.move === "perform") {
        kinds.push(`${move.stage}: ${move.step.kind} g${move.step.generation}`);
        story.does();
      } else if (move.move === "observe") for (const look of move.looks) story.sees(look.claim);
      else if (move.move === "pass") story.passed(move.stage);
      else if (move.move === "wait") story.at((move.until - zero) / second);
    }
    expect(kinds).toEqual([
      "created: issue g2",
      "created: admit g2",
      "created: reload g2",
      "delivered: deliver g2",
      "adopted: reload g2",
      "deleted: withdraw g1",
      "deleted: reload g2",
      "closed: forget g1",
      "closed: destroy g1",
    ]);
  });
});

describe("read back", () => {
  test("an intent without an outcome: whatever else there is, first find out", () => {
    const story = new Story().passed("planned").intends();
    const expected = { move: "read back", stage: "issued", op: "shop/1/issued/issue/ca#1" };
    expect(story.decides()).toMatchObject(expected);
    expect(story.takenUp().decides()).toMatchObject(expected);
    story.event({ type: "RevertRequested", by: "ops", reason: "x" });
    expect(story.decides(3600)).toMatchObject(expected);
    expect(story.isDone(true).decides()).not.toMatchObject({ move: "read back" });
  });

  test("a step of the way back is read back under the stage it undoes", () => {
    const story = new Story().upTo("adopted").event({ type: "RevertRequested", by: "ops", reason: "x" });
    expect(story.intends().decides()).toMatchObject({ move: "read back", stage: "delivered" });
  });
});

describe("observe", () => {
  test("never looked: everybody is looked at for all claims of the stage", () => {
    const story = new Story().upTo("delivered").does();
    expect(story.decides()).toEqual({ move: "observe", stage: "delivered", looks: [{ claim: "stored" }] });
    story.upTo("adopted").does();
    expect(claimsLookedAt(story.decides())).toEqual(["presented", "accepted"]);
  });

  test("one of two did not answer: after the pause only that one is looked at again", () => {
    const story = new Story().upTo("adopted").does().sees("presented", { "servers-2": "unknown" }).sees("accepted");
    expect(story.decides(1)).toMatchObject({ move: "wait", until: later(2) });
    expect(story.decides(2)).toEqual({
      move: "observe",
      stage: "adopted",
      looks: [{ claim: "presented", members: ["servers-2"] }],
    });
  });

  test("a round that others made longer than the patience gives everybody a second look", () => {
    const story = new Story().upTo("adopted").does().at(12).sees("accepted");
    const slow = story.sees("presented", { "servers-1": "no", "servers-2": "unknown" }, undefined, 1);
    expect(slow.decides(12).move).not.toBe("hold");
    expect(slow.at(23).sees("presented", { "servers-2": "unknown" }, undefined, 22).decides(23)).toMatchObject({
      move: "hold",
      reasons: [{ about: "servers-2" }],
    });
  });

  test("a look as old as its freshness is none", () => {
    const story = new Story().upTo("adopted").does().sees("presented").sees("accepted");
    expect(story.decides(59)).toMatchObject({ move: "pass", stage: "adopted" });
    expect(claimsLookedAt(story.decides(60))).toEqual(["presented", "accepted"]);
  });

  test("a look from the future is none (the clock was set back)", () => {
    const story = new Story().upTo("adopted").does().at(30).sees("presented").sees("accepted");
    expect(claimsLookedAt(story.decides(29))).toEqual(["presented", "accepted"]);
    expect(story.decides(30)).toMatchObject({ move: "pass" });
  });

  test("taken up again: what is stored is looked at again before it is closed, a yes of a server is not", () => {
    const story = new Story({ revoke: false }).upTo("superseded").sees("stored").at(1).takenUp();
    expect(claimsLookedAt(story.decides())).toEqual(["stored"]);
    expect(story.sees("stored", { file: "no" }).decides()).not.toMatchObject({ move: "pass" });
    expect(story.at(2).takenUp().sees("stored").decides()).toMatchObject({ move: "pass", stage: "superseded" });
  });

  test("what was stored half a minute ago is looked at again, what a server presented is not", () => {
    const story = () => new Story({ revoke: false }).upTo("superseded").sees("stored");
    expect(story().decides(29)).toMatchObject({ move: "pass", stage: "superseded" });
    expect(claimsLookedAt(story().decides(31))).toEqual(["stored"]);
  });

  test("a no from before the rotation was taken up again is looked at again, a yes is not", () => {
    const story = new Story().upTo("adopted").does().sees("presented", { "servers-1": "no" }).sees("accepted");
    expect(story.at(1).takenUp().decides()).toEqual({
      move: "observe",
      stage: "adopted",
      looks: [{ claim: "presented", members: ["servers-1"] }],
    });
  });

  test("a look from before a reload says nothing of what is loaded now", () => {
    const story = new Story().upTo("adopted").sees("presented").sees("accepted").does();
    expect(claimsLookedAt(story.decides())).toEqual(["presented", "accepted"]);
  });

  test("a member joined: only it is looked at", () => {
    const story = new Story().upTo("adopted").does().sees("presented").sees("accepted");
    const { members } = story.rotation.inventory!;
    const joined = { id: "servers-3", of: "servers" };
    story.resolved({ members: { ...members, presenter: [...members.presenter, joined] } });
    expect(story.decides()).toEqual({
      move: "observe",
      stage: "adopted",
      looks: [{ claim: "presented", members: ["servers-3"] }],
    });
  });

  test("a member is another instance than it was: it is looked at again", () => {
    const story = new Story().upTo("adopted").does().sees("presented").sees("accepted");
    const { members } = story.rotation.inventory!;
    const [first, second_] = members.presenter;
    story.resolved({ members: { ...members, presenter: [{ ...first!, instance: "restarted" }, second_!] } });
    expect(story.decides()).toMatchObject({ looks: [{ claim: "presented", members: ["servers-1"] }] });
  });
});

describe("wait and hold", () => {
  const unmet = (): Story =>
    new Story().upTo("adopted").does().sees("presented", { "servers-1": "no" }).sees("accepted");

  test("unmet for less than the patience: looked at again after each pause", () => {
    const story = unmet();
    expect(story.decides(1)).toMatchObject({ move: "wait", until: later(2), why: "presented: says no" });
    expect(story.at(2).sees("presented", { "servers-1": "no" }).decides(3)).toMatchObject({
      move: "wait",
      until: later(4),
    });
    story.at(9).sees("presented", { "servers-1": "no" });
    expect(story.decides(9)).toMatchObject({ move: "wait" });
  });

  test("unmet for longer than the patience, over three looks: held, naming the member, since when and what releases it", () => {
    const story = unmet()
      .at(5)
      .sees("presented", { "servers-1": "no" })
      .at(10)
      .sees("presented", { "servers-1": "no" });
    expect(story.decides(10)).toEqual({
      move: "hold",
      stage: "adopted",
      reasons: [
        {
          about: "servers-1",
          claim: "presented",
          verdict: "no",
          what: "says no",
          since: later(0),
          release: "servers-1 presents g2 with a complete chain",
        },
      ],
    });
  });

  test("unmet for longer than the patience, but one bad look after good ones: looked at again first", () => {
    const story = new Story()
      .upTo("adopted")
      .does()
      .at(20)
      .sees("presented", { "servers-1": "unknown" })
      .sees("accepted");
    expect(story.decides(21)).toMatchObject({ move: "wait", until: later(22) });
  });

  test("bad in each of several short runs, longer than the patience: held without three looks in one", () => {
    const story = unmet().at(30).takenUp().sees("presented", { "servers-1": "no" });
    expect(story.decides(30)).toMatchObject({ move: "hold" });
    expect(story.decides(33), "what is not known any more is looked at first").toMatchObject({ move: "observe" });
  });

  test("no and unknown are told apart in the reasons", () => {
    const story = new Story().upTo("adopted").does();
    for (const at of [0, 5, 10])
      story.at(at).sees("presented", { "servers-1": "no", "servers-2": "unknown" }).sees("accepted");
    expect(reasonsIn(story.decides(12)).map(({ about, verdict }) => [about, verdict])).toEqual([
      ["servers-1", "no"],
      ["servers-2", "unknown"],
    ]);
  });

  test("held stays held at any later time, until somebody takes it up, waives, approves or goes back", () => {
    const held = (): Story => {
      const story = unmet();
      return story.event({ type: "Held", stage: "adopted", reasons: [] });
    };
    expect(held().decides(3600)).toEqual({ move: "hold", stage: "adopted", reasons: [] });
    expect(held().at(1).takenUp().decides()).toMatchObject({ move: "observe" });
    expect(held().waived("servers-1", 100).decides()).toMatchObject({ move: "pass" });
    expect(held().event({ type: "Approved", by: "anna", plan: "sha256:x" }).decides(3)).toMatchObject({
      move: "observe",
    });
    const back = held().event({ type: "RevertRequested", by: "ops", reason: "x" });
    expect(back.decides()).toMatchObject({ move: "perform", step: { kind: "restore" } });
  });
});

describe("looks that take their time", () => {
  const removing = (): Story => ready().at(100).takenUp();

  test("a look is as old as its beginning, not as its end", () => {
    const story = new Story().upTo("adopted").does().at(50).sees("accepted").sees("presented", {}, undefined, 5);
    expect(story.decides(64)).toMatchObject({ move: "pass", stage: "adopted" });
    expect(story.decides(65)).toMatchObject({ move: "observe", looks: [{ claim: "presented" }] });
    expect(story.sees("presented", {}, undefined, 50).decides(65)).toMatchObject({ move: "pass", stage: "adopted" });
  });

  test("one that took longer than it counts says nothing, and is held on by name", () => {
    const story = new Story().upTo("adopted").does().sees("accepted");
    for (const second of [60, 120, 180]) {
      story
        .at(second)
        .sees("accepted")
        .sees("presented", {}, undefined, second - 60);
      if (second < 180) expect(story.decides(second + 2)).toMatchObject({ move: "observe" });
    }
    expect(story.decides()).toMatchObject({ move: "hold", stage: "adopted" });
    expect(reasonsIn(story.decides())).toMatchObject([
      { about: "servers-1", claim: "presented", verdict: "unknown", what: "the look took 1 min, and counts for 1 min" },
      { about: "servers-2", claim: "presented", verdict: "unknown" },
    ]);
  });

  test("a slow no is still a no", () => {
    const story = new Story().upTo("adopted").does().sees("accepted").at(60);
    story.sees("accepted").sees("presented", { "servers-1": "no" }, undefined, 0);
    expect(story.rotation.seen.get("presented")!.get("servers-1")).toMatchObject({ saw: "no", what: "says no" });
  });

  test("silence is not outlived by the time its own look took", () => {
    const story = removing().sees("stored").sees("acceptedOld").sees("presented").sees("accepted");
    story.at(103).sees("silent", {}, undefined, 100);
    expect(story.decides()).toMatchObject({ move: "perform", stage: "revoked" });
  });
});

describe("waivers, taken back", () => {
  const both = { "servers-1": "no", "servers-2": "no" } as const;
  const waivedWhole = (): Story =>
    new Story()
      .upTo("adopted")
      .does()
      .sees("accepted")
      .sees("presented", both)
      .waived("servers-1", 500)
      .waived("servers-2", 500);
  const withdraws = (story: Story, member: string, claim?: ClaimName): Story =>
    story.event({
      type: "WaiverWithdrawn",
      member,
      by: "ben",
      reason: "it is back",
      ...(claim === undefined ? {} : { claim }),
    });

  test("with everybody waived it stands, and one taken back makes it go on", () => {
    const story = waivedWhole().at(10).sees("accepted").at(20).sees("accepted").at(30).sees("accepted");
    for (const second of [12, 22, 32]) story.at(second).sees("presented");
    expect(reasonsIn(story.decides())).toMatchObject([{ release: expect.stringContaining("--withdraw") }]);
    withdraws(story, "servers-1").sees("presented");
    expect(story.decides()).toMatchObject({ move: "pass", stage: "adopted" });
  });

  test("for one claim: the waivers for others stay", () => {
    const story = new Story().upTo("adopted").waived("servers-1", 500, "presented").waived("doors-1", 500, "accepted");
    withdraws(withdraws(story, "servers-1", "accepted"), "doors-1", "accepted");
    expect([...waivedMembers(story.rotation, "presented", zero)]).toEqual(["servers-1"]);
    expect([...waivedMembers(story.rotation, "accepted", zero)]).toEqual([]);
  });

  test("what was accepted while it lasted stays so: the verdicts of a stage passed before", () => {
    const story = new Story().upTo("adopted").waived("servers-1", 500);
    withdraws(story.at(20), "servers-1");
    expect([...waivedMembers(story.rotation, "presented", zero + 19 * second)]).toEqual(["servers-1"]);
    expect([...waivedMembers(story.rotation, "presented", zero + 20 * second)]).toEqual([]);
    expect(story.rotation.waivers[0]?.withdrawn).toEqual({ by: "ben", reason: "it is back", at: zero + 20 * second });
  });
});

describe("what a waiver can be for", () => {
  test("the claims that are open about a member, less those that are waived", () => {
    const story = new Story().upTo("adopted").does().sees("accepted", { "doors-1": "unknown" });
    story.sees("presented", { "servers-1": "no" });
    const open = (member: string) => openClaims(story.rotation, member, zero);
    expect([open("servers-1"), open("doors-1"), open("servers-2")]).toEqual([["presented"], ["accepted"], []]);
    story.waived("servers-1", 50, "presented");
    expect(open("servers-1")).toEqual([]);
  });

  test("a member that a hold names and that nobody looks at any more", () => {
    const story = new Story({ presenters: [{ ...party("servers"), listed: ["servers-1", "gone"] }] }).upTo("adopted");
    const reason = {
      about: "gone",
      claim: "presented",
      verdict: "unknown",
      what: "",
      since: zero,
      release: "",
    } as const;
    expect(openClaims(story.rotation, "gone", zero)).toEqual([]);
    story.event({ type: "Held", stage: "adopted", reasons: [reason] });
    expect(openClaims(story.rotation, "gone", zero)).toEqual(["presented"]);
  });

  test("on the way back, what the way back asks", () => {
    const story = new Story().upTo("adopted");
    expect(claimsAbout(story.rotation, "servers-1")).toEqual(["presented"]);
    expect(claimsAbout(story.rotation, "doors-1")).toEqual(["accepted", "acceptedOld", "refused"]);
    story.event({ type: "RevertRequested", by: "ops", reason: "x" });
    expect(claimsAbout(story.rotation, "servers-1")).toEqual(["presentedOld"]);
    expect(claimsAbout(story.rotation, "nobody")).toEqual([]);
  });
});

describe("waivers", () => {
  const adopting = (): Story => new Story().upTo("adopted").does().sees("accepted");

  test("a waived member does not count while the waiver lasts", () => {
    const story = adopting().sees("presented", { "servers-1": "no" }).waived("servers-1", 50);
    expect(story.decides(49)).toMatchObject({ move: "pass", stage: "adopted" });
    expect(story.decides(50)).toMatchObject({ move: "observe" });
  });

  test("a waiver for another claim does not help", () => {
    const story = adopting().sees("presented", { "servers-1": "no" }).waived("servers-1", 50, "accepted");
    expect(story.decides(3)).toMatchObject({
      move: "observe",
      looks: [{ claim: "presented", members: ["servers-1"] }],
    });
    expect(story.waived("servers-1", 50, "presented").decides(3)).toMatchObject({ move: "pass" });
  });

  test("everybody waived: nothing is left to prove it, so it holds", () => {
    const story = adopting();
    for (const at of [0, 5, 10]) story.at(at).sees("presented").sees("accepted");
    story.waived("servers-1", 100).waived("servers-2", 100);
    expect(reasonsIn(story.decides(12))).toMatchObject([
      {
        about: "shop",
        verdict: "unknown",
        what: expect.stringContaining("every one of the replicas is waived"),
        release: expect.stringMatching(/^a waiver is withdrawn .* or ends \(the latest at .*Z\)/),
      },
    ]);
  });

  test("a waived sensor does not restart the window, and is not waited for", () => {
    const story = new Story().upTo("quiet").waived("log", 1000);
    expect(story.decides()).toMatchObject({ move: "wait", until: later(30) });
  });
});

describe("inventories with holes", () => {
  test("unresolved: everybody known said yes, and it is unknown all the same", () => {
    const story = new Story().upTo("adopted").does();
    story.resolved({ unresolved: [{ of: "servers", why: "DNS does not answer" }] });
    for (const at of [0, 4, 8]) story.at(at).sees("presented").sees("accepted");
    expect(story.decides(9)).toMatchObject({ move: "wait", until: later(10) });
    expect(reasonsIn(story.decides(10))).toMatchObject([
      { what: "the members of servers could not be counted: DNS does not answer" },
    ]);
  });

  test("unresolved elsewhere: a claim that does not ask that entry is not touched", () => {
    const story = new Story()
      .upTo("delivered")
      .does()
      .resolved({ unresolved: [{ of: "servers", why: "x" }] });
    expect(story.sees("stored").decides()).toMatchObject({ move: "pass", stage: "delivered" });
  });

  test("zero members: 'for all' over nothing", () => {
    const story = new Story().upTo("adopted").does();
    const { members } = story.rotation.inventory!;
    story.resolved({ members: { ...members, presenter: [] } });
    for (const at of [0, 5, 10]) story.at(at).sees("presented").sees("accepted");
    expect(reasonsIn(story.decides(12))).toMatchObject([
      { what: expect.stringContaining("over nothing proves nothing") },
    ]);
  });

  test("two entries, one of them with nobody: the other does not prove it", () => {
    const story = new Story({ presenters: [party("servers"), party("edge")] }).upTo("adopted").does();
    const { members } = story.rotation.inventory!;
    story.resolved({ members: { ...members, presenter: members.presenter.filter(({ of }) => of === "servers") } });
    for (const at of [0, 5, 10]) story.at(at).sees("presented").sees("accepted");
    expect(reasonsIn(story.decides(12))).toMatchObject([
      { what: expect.stringContaining("edge of the plan has no replicas") },
    ]);
  });
});

describe("the quiet window", () => {
  const quiet = (): Story => new Story().upTo("quiet");

  test("begins with adoption and with a look at each sensor", () => {
    expect(quiet().decides()).toEqual({ move: "observe", stage: "quiet", looks: [{ claim: "silent" }] });
    expect(quiet().sees("silent").decides(1)).toMatchObject({
      move: "wait",
      until: later(30),
      why: expect.stringContaining("quiet window"),
    });
  });

  test("ends with another look: the one from its beginning says nothing of the rest", () => {
    expect(quiet().sees("silent").decides(30)).toMatchObject({ move: "observe", looks: [{ claim: "silent" }] });
    expect(quiet().sees("silent").at(29).sees("silent").decides(30), "not a second early").toMatchObject({
      move: "observe",
    });
    expect(quiet().sees("silent").at(30).sees("silent").decides()).toMatchObject({ move: "pass", stage: "quiet" });
  });

  test("without a sensor it is a time bound", () => {
    const story = new Story({ sensors: [] }).upTo("quiet");
    expect(story.decides(29)).toMatchObject({ move: "wait", until: later(30) });
    expect(story.decides(30)).toMatchObject({ move: "pass", stage: "quiet" });
  });

  test("a use of the old one begins it again", () => {
    const story = quiet().sees("silent").at(30).sees("silent", { log: "no" }, 20);
    expect(story.decides(30)).toMatchObject({ move: "wait", until: later(50) });
    expect(story.at(50).sees("silent").decides()).toMatchObject({ move: "pass" });
  });

  test("a use seen by one sensor makes the other's silence too short", () => {
    const story = new Story({ sensors: [party("log"), party("log2")] }).upTo("quiet").sees("silent");
    story.at(30).sees("silent", { log: "no" }, 29);
    expect(story.decides(59)).toEqual({ move: "observe", stage: "quiet", looks: [{ claim: "silent" }] });
  });

  test("used again and again beyond window and patience: held, naming only the sensor that saw it", () => {
    const story = new Story({ sensors: [party("log"), party("log2")] }).upTo("quiet").sees("silent");
    story.at(30).sees("silent", { log: "no" }, 29);
    expect(story.decides(39)).toMatchObject({ move: "wait" });
    expect(reasonsIn(story.decides(40))).toMatchObject([{ about: "log", verdict: "no" }]);
  });

  test("a use seen at the very gate of the removal begins the whole window again", () => {
    const story = beforeRemoval().sees("stored").sees("acceptedOld").sees("silent", { log: "no" }, 30);
    expect(story.decides(31)).toMatchObject({ move: "wait", stage: "revoked", until: later(60) });
    story.at(60);
    for (const claim of ["stored", "presented", "accepted", "acceptedOld", "silent"] as const) story.sees(claim);
    expect(story.decides()).toMatchObject({ move: "perform", step: { kind: "retire" } });
  });

  test("taken up after a use while it was held: the short rest of the window is waited for, once", () => {
    const used = (): Story => quiet().sees("silent").at(200).takenUp().sees("silent", { log: "no" }, 175);
    expect(used().decides(200)).toMatchObject({ move: "wait", until: later(205) });
    expect(used().at(205).sees("silent", { log: "no" }, 204).decides()).toMatchObject({ move: "hold" });
    expect(used().at(205).sees("silent").decides()).toMatchObject({ move: "pass" });
    const late = quiet().sees("silent").at(200).takenUp().sees("silent", { log: "no" }, 181);
    expect(late.decides(200)).toMatchObject({ move: "hold" });
  });

  test("what is revoked by nobody needs no silence", () => {
    expect(stagesPassed(new Story({ revoke: false }).upTo("closed"))).not.toContain("quiet");
  });
});

describe("removal", () => {
  test("needs corner A and silence besides what adoption showed", () => {
    expect(claimsLookedAt(beforeRemoval().decides())).toEqual(["stored", "acceptedOld"]);
  });

  test("waited for something else meanwhile: silence is asked for again right before it", () => {
    const story = beforeRemoval().sees("stored").sees("acceptedOld", { "doors-1": "unknown" });
    story.at(34).sees("acceptedOld");
    expect(claimsLookedAt(story.decides())).toEqual(["silent"]);
    expect(story.sees("silent").decides()).toMatchObject({ move: "perform", step: { kind: "retire" } });
  });

  test("goes on from step to step without asking for what the first one ended", () => {
    const story = ready().does();
    expect(story.at(200).decides()).toMatchObject({ move: "perform", step: { kind: "publish" } });
  });

  test("taken up again in the middle: everything but corner A is asked again", () => {
    const story = ready().does().at(200).takenUp();
    expect(claimsLookedAt(story.decides())).toEqual(["stored", "presented", "accepted", "silent"]);
    for (const claim of ["stored", "presented", "accepted", "silent"] as const) story.sees(claim);
    expect(story.decides()).toMatchObject({ move: "perform", step: { kind: "publish" } });
  });

  test("the last stage looks again at who holds, presents and accepts the new one", () => {
    const story = ready().upTo("refused");
    expect(claimsLookedAt(story.decides())).toEqual(["stored", "presented", "accepted", "refused"]);
  });

  test("a grade is given only to the inventory it is about", () => {
    const story = ready().upTo("refused");
    for (const claim of ["stored", "presented", "accepted", "refused"] as const) story.sees(claim);
    expect(story.decides()).toEqual({
      move: "pass",
      stage: "refused",
      epoch: story.rotation.epoch,
      confirm: story.rotation.epoch,
    });
  });
});

describe("the old one's own end", () => {
  const shortLived = (life: number, change: Change = {}) => new Story({ from: generation(1, life), ...change });

  test("expired before the rotation: no removal, refused by its date", () => {
    const story = shortLived(-minute * 10).upTo("closed");
    expect(stagesPassed(story)).toEqual(["planned", "issued", "delivered", "adopted", "expired"]);
    expect(story.decides()).toMatchObject({ move: "perform", step: { kind: "forget" } });
  });

  test("expires in mid-rotation: the rest of the removal falls away, it does not hold for corner A", () => {
    const story = shortLived(20 * minute).upTo("revoked");
    expect(currentStage(story.rotation, later(24 * 60))?.name).toBe("revoked");
    expect(currentStage(story.rotation, later(25 * 60))?.name).toBe("expired");
  });

  test("within the clocks' difference of its expiry: waits until the date has passed for everybody", () => {
    const story = shortLived(20 * minute).upTo("revoked");
    expect(story.decides(15 * 60 - 1)).toMatchObject({ move: "observe" });
    expect(story.decides(15 * 60)).toMatchObject({
      move: "wait",
      until: later(25 * 60),
      why: expect.stringContaining("expires"),
    });
    expect(story.at(25 * 60).decides()).toMatchObject({ move: "observe", stage: "expired" });
    expect(story.upTo("closed").lineage.rotations[0]?.passed.at(-1)?.stage).toBe("expired");
  });

  test("expires after it was seen refused: it is not asked again", () => {
    const story = shortLived(20 * minute).upTo("closed");
    expect(stagesPassed(story)).toContain("refused");
    story.does().does();
    expect(story.decides(3600)).toMatchObject({ move: "pass", stage: "closed" });
    expect(story.at(3600).passed("closed").decides()).toEqual({ move: "close", grade: "REFUSED" });
  });
});

describe("grades", () => {
  const ends = (change: Change): Move => {
    const story = new Story(change).upTo("closed");
    while (story.decides().move === "perform") story.does();
    return story.passed("closed").decides();
  };
  const graded: readonly [string, Change, string][] = [
    ["every verifier refuses", {}, "REFUSED"],
    ["pins withdrawn", overlapping, "REFUSED"],
    ["one verifier cannot refuse", { verifiers: [party("doors", { canRefuse: true }), party("gate")] }, "SUPERSEDED"],
    ["no verifier at all", { verifiers: [] }, "SUPERSEDED"],
    ["the manifest says not to revoke", { revoke: false }, "SUPERSEDED"],
    ["no store to carry a refusal", { trustStores: [] }, "SUPERSEDED"],
    ["the old one had expired", { from: generation(1, -minute * 10) }, "EXPIRED"],
    ["a first issue", { from: undefined }, "FIRST"],
  ];
  it.each(graded)("%s", (_, change, grade) => expect(ends(change)).toEqual({ move: "close", grade }));
});

describe("approval", () => {
  const approving = { approval: "required" as const };

  test("asked for before the first step without a way back, by name and for this plan", () => {
    const story = beforeRemoval(approving);
    expect(reasonsIn(story.decides())).toMatchObject([
      { verdict: "approval", what: expect.stringContaining(story.rotation.digest) },
    ]);
    story.event({ type: "Approved", by: "anna", plan: "sha256:another" });
    expect(story.decides()).toMatchObject({ move: "hold" });
    story.event({ type: "Approved", by: "anna", plan: story.rotation.digest });
    expect(claimsLookedAt(story.decides())).toEqual(["stored", "acceptedOld"]);
  });

  test("overlap: asked for before the old one is withdrawn, and once", () => {
    const story = new Story({ ...overlapping, ...approving }).upTo("deleted");
    expect(story.decides()).toMatchObject({
      move: "hold",
      stage: "deleted",
      reasons: [{ verdict: "approval", what: expect.stringContaining("takes g1 away") }],
    });
    story.event({ type: "Approved", by: "anna", plan: story.rotation.digest });
    expect(stagesPassed(story.upTo("closed"))).toContain("deleted");
    expect(story.decides()).toMatchObject({ move: "perform", step: { kind: "forget" } });
  });

  test("where nothing is taken away: before the old key is destroyed", () => {
    const story = new Story({ ...approving, revoke: false });
    for (const stage of ["issued", "delivered", "adopted", "superseded"] as const) story.upTo(stage);
    for (const claim of ["stored", "presented", "accepted"] as const) story.sees(claim);
    expect(story.passed("superseded").decides()).toMatchObject({
      move: "hold",
      stage: "closed",
      reasons: [{ verdict: "approval", what: expect.stringContaining("destroys the key of g1") }],
    });
  });

  test("a first issue takes nothing away, so nobody is asked", () => {
    const story = new Story({ ...approving, from: undefined }).upTo("closed");
    expect(story.decides()).toMatchObject({ move: "perform", step: { kind: "forget" } });
  });

  test("not asked for unless the manifest says so", () => {
    expect(claimsLookedAt(beforeRemoval().decides())).toEqual(["stored", "acceptedOld"]);
  });
});

describe("steps that fail", () => {
  const delivering = (): Story => new Story().upTo("delivered");

  test("later: tried again after twice the pause each time, then put back", () => {
    const story = delivering().fails("later");
    expect(story.decides(1)).toMatchObject({ move: "wait", until: later(2), why: "deliver failed" });
    expect(story.decides(2)).toMatchObject({ move: "perform", attempt: 2, op: "shop/1/delivered/deliver/file#2" });
    story.at(2).fails("later");
    expect(story.decides(5)).toMatchObject({ move: "wait", until: later(6) });
    story.at(6).fails("later");
    expect(story.decides()).toMatchObject({ move: "put back", why: "deliver failed", error: { code: "disk" } });
  });

  test("never: put back at once", () => {
    expect(delivering().fails("never").decides()).toMatchObject({ move: "put back" });
    expect(delivering().fails("never").at(60).takenUp().decides(), "also by the next run").toMatchObject({
      move: "put back",
    });
  });

  test("read back: cut off, it may stand; tried again like later", () => {
    expect(delivering().fails("read back").decides(2)).toMatchObject({ move: "perform", attempt: 2 });
  });

  test("somebody else changed it: held, not overwritten and not put back; the next run tries once more", () => {
    const story = delivering().fails("never", "conflict");
    expect(story.decides()).toMatchObject({
      move: "hold",
      reasons: [{ about: "file", verdict: "failed", what: "deliver failed" }],
    });
    story.event({ type: "Held", stage: "delivered", reasons: [] });
    story.at(5).takenUp();
    expect(story.decides()).toMatchObject({ move: "perform", attempt: 2 });
    expect(story.fails("never", "conflict").decides()).toMatchObject({ move: "hold" });
  });

  test.each([
    ["a CRL", { kind: "crl", trustStores: [] }, "file"],
    ["a pin", { pinned: true }, "crl"],
  ] as const)(
    "the reload after the first of %s: held, since what reads it could not start without",
    (_, change, on) => {
      const first = (from: undefined | ReturnType<typeof generation>) => {
        const story = new Story({ ...change, from, to: from === undefined ? 1 : 2 });
        for (let move = story.decides(); move.move !== "perform" || move.step.kind !== "reload"; move = story.decides())
          if (move.move === "pass") story.passed(move.stage);
          else if (move.move === "perform") story.does();
          else if (move.move === "observe") for (const { claim } of move.looks) story.sees(claim);
          else throw new Error(JSON.stringify(move));
        return story.fails("never", "command");
      };
      const release = `start what reads ${on}, then gyre rotate shop`;
      const held = first(undefined);
      expect(held.decides()).toMatchObject({ move: "hold", reasons: [{ about: on, verdict: "failed", release }] });
      held.at(60).takenUp();
      expect(held.decides(), "the next run tells it again").toMatchObject({ move: "perform", attempt: 2 });
      expect(first(generation(1)).decides(), "one that is replaced").toMatchObject({ move: "put back" });
    },
  );

  test("the next run has its tries anew", () => {
    const story = delivering();
    for (const at of [0, 2, 6]) story.at(at).fails("later");
    // A runner that died before it could put it back.
    expect(story.at(100).takenUp().decides()).toMatchObject({ move: "perform", attempt: 4 });
  });

  test("after something irreversible: held, never put back", () => {
    const story = ready().does();
    expect(story.fails("never").decides()).toMatchObject({
      move: "hold",
      reasons: [{ about: "crl", verdict: "failed" }],
    });
    expect(canPutBack(story.rotation)).toBe(false);
  });

  test("the irreversible step itself failed for sure: put back", () => {
    const story = ready().fails("never", "issuer");
    expect(story.decides()).toMatchObject({ move: "put back" });
  });

  test("the irreversible step itself was cut off and may stand: never put back", () => {
    const story = ready().fails("read back", "unreachable");
    expect(canPutBack(story.rotation)).toBe(false);
    story.event({ type: "RevertRequested", by: "ops", reason: "x" });
    expect(goesBack(story.rotation)).toBe(false);
    expect(claimsLookedAt(story.decides(60)), "all but corner A").toEqual([
      "stored",
      "presented",
      "accepted",
      "silent",
    ]);
    for (const claim of ["stored", "presented", "accepted", "silent"] as const) story.at(60).sees(claim);
    expect(story.decides(60)).toMatchObject({ move: "perform", step: { kind: "retire" }, attempt: 2 });
  });
});

describe("going back", () => {
  const back = (stage: StageName, change: Change = {}): Story =>
    new Story(change).upTo(stage).event({ type: "RevertRequested", by: "ops", reason: "wrong name" });
  const steps = (story: Story): string[] => {
    const done: string[] = [];
    for (let move = story.decides(); move.move !== "reverted"; move = story.decides()) {
      if (move.move === "perform") {
        done.push(`${move.step.kind} g${move.step.generation}`);
        story.does();
      } else if (move.move === "observe") {
        done.push(move.looks.map((look) => look.claim).join(" "));
        for (const look of move.looks) story.sees(look.claim);
      } else throw new Error(JSON.stringify(move));
    }
    return done;
  };

  test("nothing done yet: reverted at once", () => {
    expect(back("issued").decides()).toEqual({ move: "reverted", why: "wrong name" });
  });

  test("issued: revoked and its key destroyed", () => {
    expect(steps(back("delivered"))).toEqual(["retire g2", "destroy g2"]);
    const cannotRevoke = { issuer: party("ca", {}), revoke: false };
    expect(steps(back("delivered", cannotRevoke))).toEqual(["destroy g2"]);
  });

  test("delivered and told: restored and told, then seen in use before the new key goes", () => {
    expect(steps(back("quiet"))).toEqual([
      "restore g1",
      "reload g1",
      "restored presentedOld acceptedOld",
      "retire g2",
      "destroy g2",
    ]);
  });

  test("overlap, withdrawn: admitted again first", () => {
    expect(steps(back("refused", overlapping))).toEqual([
      "admit g1",
      "reload g1",
      "acceptedOld",
      "restore g1",
      "reload g1",
      "restored presentedOld acceptedOld",
      "withdraw g2",
      "reload g1",
      "retire g2",
      "destroy g2",
      "acceptedOld restored presentedOld",
    ]);
  });

  test("only targets that were written are restored", () => {
    const story = new Story({ targets: [party("a"), party("b")] }).upTo("delivered").does();
    story.event({ type: "RevertRequested", by: "ops", reason: "x" });
    expect(steps(story).filter((step) => step.startsWith("restore g"))).toHaveLength(1);
  });

  test("a look at the old one from before it was restored does not count", () => {
    const story = beforeRemoval().sees("acceptedOld").event({ type: "RevertRequested", by: "ops", reason: "x" });
    expect(steps(story)).toContain("restored presentedOld acceptedOld");
  });

  test("an old one that expired is put back in its place; nobody can be asked to take it", () => {
    const story = new Story({ from: generation(1, minute) }).upTo("delivered").does();
    story.at(120).event({ type: "RevertRequested", by: "ops", reason: "x" });
    expect(steps(story)).toEqual(["restore g1", "reload g1", "restored", "retire g2", "destroy g2"]);
  });

  test("the reload fails on the way back: left to what is seen", () => {
    const story = back("quiet").does().fails("never");
    expect(claimsLookedAt(story.decides())).toEqual(["restored", "presentedOld", "acceptedOld"]);
  });

  test("the restoring fails: held", () => {
    expect(back("quiet").fails("never", "conflict").decides()).toMatchObject({
      move: "hold",
      reasons: [{ verdict: "failed" }],
    });
  });

  test("everybody waived is no obstacle on the way back, and is told", () => {
    const everybody = (story: Story): Story =>
      ["servers-1", "servers-2", "doors-1", "doors-2"].reduce((told, member) => told.waived(member, 9999), story);
    const story = everybody(new Story().upTo("adopted").does());
    story.event({ type: "RevertRequested", by: "ops", reason: "x" });
    for (const kind of ["restore", "reload", "retire", "destroy"]) {
      if (story.decides().move === "observe") story.sees("restored");
      expect(story.decides()).toMatchObject({ step: { kind } });
      story.does();
    }
    expect(story.decides()).toEqual({
      move: "reverted",
      why: "x",
      unseen: ["servers-1", "servers-2", "doors-1", "doors-2"],
    });
  });

  test("needs no approval", () => {
    expect(back("quiet", { approval: "required" }).decides()).toMatchObject({
      move: "perform",
      step: { kind: "restore" },
    });
  });

  test("asked for when the last copies are being deleted: goes on", () => {
    const story = new Story().upTo("closed").intends();
    story.event({ type: "RevertRequested", by: "ops", reason: "x" }).isDone();
    expect(story.decides()).toMatchObject({ move: "perform", stage: "closed", step: { kind: "destroy" } });
  });
});

describe("the end", () => {
  test("nothing is decided any more", () => {
    const closed = new Story().upTo("closed");
    while (closed.decides().move === "perform") closed.does();
    closed.passed("closed").event({ type: "RotationClosed", grade: "REFUSED" });
    expect(closed.decides(3600)).toEqual({ move: "ended" });
    const reverted = new Story().event({ type: "RevertRequested", by: "ops", reason: "x" });
    expect(reverted.event({ type: "RotationReverted", why: "x" }).decides()).toEqual({ move: "ended" });
  });

  test("the same rotation at the same instant gives the same move, and is left as it was", () => {
    const story = beforeRemoval();
    const before = JSON.stringify(story.plan);
    const moves = [0, 1, 2].map(() => decide(story.rotation, later(31)));
    expect(moves[1]).toEqual(moves[0]);
    expect(moves[2]).toEqual(moves[0]);
    expect(JSON.stringify(story.plan)).toBe(before);
  });
});

function stagesPassed(story: Story): StageName[] {
  return story.rotation.passed.map(({ stage }) => stage);
}

test("the fixture is what it says: an ordinary plan, ten days of life left", () => {
  expect(new Story().plan.grade.reachable).toBe("REFUSED");
  expect(ordinary.from?.notAfter).toBe(zero + 10 * day);
});
