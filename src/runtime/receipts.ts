import type { KeyObject } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { diskError } from "../disk/disk-error.ts";
import { makeDirectory, replaceFile } from "../disk/durable.ts";
import { claims, isExpired, membersFor } from "../engine/claims.ts";
import { waivedMembers } from "../engine/finding.ts";
import type { Generation, Instant, StageName } from "../engine/model.ts";
import { quietSince } from "../engine/quiet.ts";
import type { Lineage, Rotation, Round } from "../engine/state.ts";
import { strategies } from "../engine/strategies/table.ts";
import { GyreError } from "../errors.ts";
import type { JournalHead } from "../journal/journal.ts";
import {
  openSigningKey,
  parseStatement,
  publicKeyOf,
  type SigningKey,
  signerOf,
  signStatement,
} from "../receipt/envelope.ts";
import { openReceiptLog } from "../receipt/log.ts";
import { receiptFile } from "../receipt/log-files.ts";
import {
  type Receipt,
  type ReceiptGeneration,
  type ReceiptStage,
  type ReceiptVerdict,
  type Sha256,
  statementOf,
} from "../receipt/statement.ts";
import type { Ports } from "./ports.ts";
import { mustAgreeOnTime } from "./preflight.ts";
import type { Runner } from "./runner.ts";

const signingKeyName = "receipts/signing.key";

/** The receipt log of an estate. */
export interface Receipts {
  /** Writes the receipt of every closed rotation that has none yet (a crash may lie between); gives the newest one's path. */
  writeMissing(runner: Runner, ports: Ports): Promise<string | undefined>;
  /**
   * The log can take one more receipt: nobody wants to learn otherwise when a rotation is over. Writes the signing key
   * where there is none yet.
   * @throws GyreError `damaged`, `input`, `disk`, `permission`
   */
  mustGoOn(ports: Ports): Promise<void>;
}

export function openReceipts(stateDirectory: string): Receipts {
  // The log keeps envelopes in its sub-directory receipts/, beside log.jsonl and the checkpoint.
  const directory = stateDirectory;
  return {
    async mustGoOn(ports) {
      const key = await openSigningKey(ports.secrets, signingKeyName);
      try {
        await openReceiptLog(directory, originOf(key)).check([key]);
      } catch (error) {
        throw cannotGoOn(error, directory);
      }
    },
    async writeMissing(runner, ports) {
      let path: string | undefined;
      for (const rotation of runner.lineage.rotations) {
        const written = runner.lineage.receipts.filter((receipt) => receipt.rotation === rotation.id);
        const first = written[0];
        if (rotation.end?.how !== "closed") continue;
        if (first === undefined) path = await write(directory, runner, ports, rotation, undefined);
        else if (written.length === 1 && hasExpiredSince(rotation, ports.clock.now())) {
          // By a clock that is wrong nothing has expired.
          await mustAgreeOnTime(rotation.plan.credential, ports.parties, rotation.plan.timing.skew);
          await write(directory, runner, ports, rotation, first.digest);
        }
      }
      return path;
    },
  };
}

/** Closed SUPERSEDED, and by now the old one is past its notAfter on every clock: a better grade that came by itself. */
const hasExpiredSince = ({ plan, end }: Rotation, now: Instant): boolean =>
  end?.how === "closed" && end.grade === "SUPERSEDED" && isExpired(plan, now);

/** Signs a receipt, or the addendum to one, and adds it to the log. After a crash the one in the log is the one. */
async function write(
  directory: string,
  runner: Runner,
  ports: Ports,
  rotation: Rotation,
  addendumTo: Sha256 | undefined,
): Promise<string> {
  const key = await openSigningKey(ports.secrets, signingKeyName);
  await keepPin(directory, publicKeyOf(signerOf(key)));
  const log = openReceiptLog(directory, originOf(key));
  const newest = await log.find(rotation.id);
  const kept =
    newest !== undefined && parseStatement(newest.envelope).predicate.addendumTo === addendumTo ? newest : undefined;
  const receipt = receiptOf(runner.lineage, rotation, await ports.journal.head(), await version());
  const signed = {
    ...(addendumTo === undefined ? receipt : { ...expiredSince(receipt, rotation), addendumTo }),
    log: await log.head(),
    signers: [signerOf(key)],
  };
  const place = await log.append(kept?.envelope ?? signStatement(statementOf(signed), [key]), [key]);
  await runner.append({
    type: "ReceiptWritten",
    rotation: rotation.id,
    digest: `sha256:${place.leaf}`,
    index: place.index,
  });
  return receiptFile(directory, place.index);
}

/** What changed since the receipt that is added to: time alone. Nobody was looked at again, and it says so. */
function expiredSince(receipt: ReturnType<typeof receiptOf>, { plan }: Rotation): ReturnType<typeof receiptOf> {
  const at = iso(plan.from?.notAfter ?? 0);
  return {
    ...receipt,
    grade: "EXPIRED",
    verdicts: receipt.verdicts.map((one) =>
      one.verdict === "superseded"
        ? { ...one, verdict: "expired", at, what: `g${plan.from?.number} is past its notAfter` }
        : one,
    ),
    notProvable: [
      `that anybody refuses g${plan.from?.number} for its date: this addendum rests on its notAfter, ${at}`,
    ],
  };
}

/** A log has the name of the key that it was begun with. */
const originOf = (key: SigningKey): string => `gyre.dev/receipts/${key.keyId.slice(7, 23)}`;

function cannotGoOn(error: unknown, directory: string): unknown {
  if (!(error instanceof GyreError)) return error;
  return new GyreError({
    code: error.code,
    message: `the receipts in ${directory} do not add up, so that no further one could be proven: ${error.message}; no rotation was begun`,
    where: directory,
    next: "put receipts/, log.jsonl and checkpoint back from a copy; gyre verify tells which receipts are whole",
    cause: error,
  });
}

/** The public half beside the receipts, to be copied to where receipts are verified: there it is the pin. */
async function keepPin(directory: string, key: KeyObject): Promise<void> {
  const path = join(directory, "signing.pub");
  const pem = Buffer.from(key.export({ format: "pem", type: "spki" }));
  try {
    if ((await readFile(path).catch(() => undefined))?.equals(pem) === true) return;
    await makeDirectory(directory, 0o700);
    // Whole or not at all: who verifies at this moment must not find an empty pin, nor a full disk take the old one.
    await replaceFile(path, pem, 0o644);
  } catch (error) {
    throw diskError(error, `writing the public key of receipts, ${path}`, path, "the receipts are untouched");
  }
}

async function version(): Promise<string> {
  const text = await readFile(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

const iso = (at: Instant): string => new Date(at).toISOString();

/** Everything the journal says of one closed rotation, as the statement wants it. */
export function receiptOf(
  lineage: Lineage,
  rotation: Rotation,
  journal: JournalHead,
  version: string,
): Omit<Receipt, "log" | "signers"> {
  const { plan, end } = rotation;
  const after = lineage.generations.get(plan.to)!;
  const closedAt = end?.at ?? rotation.plannedAt;
  const verdicts = verdictsOf(rotation, closedAt);
  return {
    tool: { name: "gyre", version },
    credential: plan.credential,
    rotation: rotation.id,
    strategy: plan.strategy,
    why: plan.reason,
    outcome: "closed",
    ...(plan.from === undefined ? {} : { before: generationOfReceipt(plan.from) }),
    after: generationOfReceipt(after),
    plan: rotation.digest,
    scope: scopeOf(rotation),
    startedAt: iso(rotation.plannedAt),
    closedAt: iso(closedAt),
    timeline: timeline(rotation),
    verdicts,
    grade: end?.how === "closed" ? end.grade : "SUPERSEDED",
    reachable: { grade: plan.grade.reachable, why: plan.grade.why },
    quiet: quietOf(rotation),
    waivers: rotation.waivers.map(({ member, claim, by, reason, at, expires, withdrawn }) => ({
      member,
      by,
      reason,
      at: iso(at),
      expires: iso(expires),
      ...(claim === undefined ? {} : { claim }),
      ...(withdrawn === undefined ? {} : { withdrawn: { ...withdrawn, at: iso(withdrawn.at) } }),
    })),
    approvals: rotation.approvals.map(({ by, at }) => ({ by, at: iso(at) })),
    unknowns: unknownsOf(rotation),
    failures: [...rotation.steps.values()].flatMap((step) =>
      step.failures.map(({ op, at, error }) => ({ op, at: iso(at), code: error.code, message: error.message })),
    ),
    orphans: lineage.orphans.map(({ generation, why, expires }) => ({
      why,
      expires: iso(expires),
      ...(generation === undefined ? {} : { fingerprint: generation.fingerprint, serial: generation.serial }),
    })),
    oldKey: oldKeyOf(lineage, rotation),
    journal: { seq: journal.seq, hash: journal.hash },
    notProvable: notProvable(rotation),
  };
}

function generationOfReceipt(generation: Generation): ReceiptGeneration {
  const { notBefore, notAfter, ...rest } = generation;
  return { ...rest, notBefore: iso(notBefore), notAfter: iso(notAfter) };
}

function scopeOf(rotation: Rotation): Receipt["scope"] {
  const members = rotation.inventory?.members;
  const count = (role: keyof NonNullable<typeof members>): number => members?.[role].length ?? 0;
  return {
    epoch: rotation.epoch ?? (`sha256:${"0".repeat(64)}` as Sha256),
    counts: {
      target: count("target"),
      trustStore: count("trustStore"),
      presenter: count("presenter"),
      verifier: count("verifier"),
      sensor: count("sensor"),
    },
    unresolved: rotation.inventory?.unresolved ?? [],
  };
}

function timeline(rotation: Rotation): ReceiptStage[] {
  let since = 0;
  return rotation.passed.map(({ stage, at, seq }) => {
    const from = since;
    since = seq;
    return {
      stage,
      passedAt: iso(at),
      steps: [...rotation.steps].flatMap(([key, step]) =>
        key.startsWith(`${rotation.id}/${stage}/`) && step.doneAt !== undefined
          ? [
              {
                op: `${key}#${step.attempts}`,
                at: iso(step.doneAt),
                did: step.did ?? "",
                readBack: step.readBack ?? false,
                ...(step.evidence === undefined ? {} : { evidence: step.evidence }),
              },
            ]
          : [],
      ),
      rounds: rotation.rounds
        .filter((round) => round.seq > from && round.seq < seq)
        .map((round) => ({ ...roundOf(round, rotation) })),
      holds: rotation.holds
        .filter((hold) => hold.stage === stage)
        .map((hold) => ({
          at: iso(hold.at),
          reasons: hold.reasons.map((reason) => `${reason.about}: ${reason.what}`),
        })),
    };
  });
}

function roundOf(round: Round, { plan }: Rotation): ReceiptStage["rounds"][number] {
  const { claim, at, epoch, counts, evidence } = round;
  return {
    claim,
    generation: claims[claim].about === "new" ? plan.to : (plan.from?.number ?? 0),
    at: iso(at),
    epoch,
    ...counts,
    evidence,
  };
}

/** Which claim a verdict rests on, by the stage that gave the grade. */
function verdictsOf(rotation: Rotation, closedAt: Instant): ReceiptVerdict[] {
  const passed = rotation.passed.find(
    ({ stage }) => stage === "refused" || stage === "superseded" || stage === "expired",
  );
  if (passed === undefined || rotation.inventory === undefined) return [];
  const { stage: graded, at: gradedAt } = passed;
  const names = stageClaims(rotation, graded).filter((claim) =>
    graded === "refused" ? claim === "refused" : claim === "presented" || claim === "accepted",
  );
  const refusing = graded === "refused" ? superseding(rotation) : [];
  const judged = names.flatMap((claim) =>
    membersFor(claim, rotation.plan, rotation.inventory!).map((member): ReceiptVerdict => {
      const seen = rotation.seen.get(claim)?.get(member.id);
      const waived = waivedMembers(rotation, claim, gradedAt).has(member.id);
      // A later round may have looked at others only.
      const evidence = rotation.rounds.find((round) => round.seq === seen?.seq)?.evidence;
      const denies = rotation.plan.verifiers.find(({ id }) => id === member.of)?.facts.denies === true;
      const verdict = (graded === "refused" && denies ? "denied" : graded) as ReceiptVerdict["verdict"];
      return {
        member: member.id,
        verdict: waived ? "waived" : seen?.saw !== "yes" ? "unknown" : verdict,
        at: iso(seen?.at ?? closedAt),
        what: waived ? "waived by name" : wordsOfVerdict(verdict, claim, rotation, seen?.code),
        ...(evidence === undefined ? {} : { evidence }),
      };
    }),
  );
  return [...judged, ...refusing];
}

/** Verifiers that cannot refuse: they make the grade SUPERSEDED, and are named. */
function superseding(rotation: Rotation): ReceiptVerdict[] {
  const unable = new Set(
    rotation.plan.verifiers.filter((verifier) => verifier.facts.canRefuse !== true).map((verifier) => verifier.id),
  );
  return (rotation.inventory?.members.verifier ?? [])
    .filter((member) => unable.has(member.of))
    .map((member) => ({
      member: member.id,
      verdict: "superseded",
      at: iso(rotation.rounds.at(-1)?.at ?? rotation.plannedAt),
      what: "accepts the new one and cannot refuse the old before it expires",
    }));
}

const stageClaims = (rotation: Rotation, name: StageName) =>
  strategies[rotation.plan.strategy].find((stage) => stage.name === name)?.claims(rotation.plan) ?? [];

function wordsOfVerdict(verdict: string, claim: string, { plan }: Rotation, code: string | undefined): string {
  if (verdict === "denied")
    return `knows g${plan.from?.number} still and denies it everything, and accepted g${plan.to} right after`;
  if (verdict === "refused")
    return `refused g${plan.from?.number}${code === undefined ? "" : ` (${code})`} and accepted g${plan.to} right after`;
  return claim === "presented" ? `presents g${plan.to} on a full handshake` : `accepts g${plan.to}`;
}

function quietOf(rotation: Rotation): Receipt["quiet"] {
  const { plan } = rotation;
  const silent = rotation.seen.get("silent");
  const sensors = plan.sensors.map((sensor) => ({
    id: sensor.id,
    member: sensor.id,
    alive: silent?.get(sensor.id)?.saw === "yes",
  }));
  return {
    window: plan.quiet.window,
    why: plan.quiet.why,
    sensors,
    // Said of nobody unless every sensor said so at last: a waived one may have seen a use.
    ...(sensors.length > 0 && sensors.every(({ alive }) => alive) ? { silentSince: iso(quietSince(rotation)) } : {}),
  };
}

/** Looks that stayed without an answer at the end; those answered later are in the timeline. */
function unknownsOf(rotation: Rotation): Receipt["unknowns"] {
  return [...rotation.seen].flatMap(([claim, looks]) =>
    [...looks.values()]
      .filter((seen) => seen.saw === "unknown")
      .map((seen) => ({ about: seen.member, claim, what: seen.what })),
  );
}

function oldKeyOf(lineage: Lineage, { plan, steps, id }: Rotation): Receipt["oldKey"] {
  if (plan.from === undefined) return { disposition: "never held", what: "a first issue: there was no old key" };
  if (!lineage.destroyed.has(plan.from.number)) return { disposition: "kept", what: "the old key was not deleted" };
  const at = steps.get(`${id}/closed/destroy/${plan.credential}`)?.doneAt;
  return {
    disposition: "destroyed",
    what: "deleted from Gyre's secret store and from the copies its targets kept; copies made elsewhere are not known to Gyre",
    ...(at === undefined ? {} : { at: iso(at) }),
  };
}

/** In words, what this rotation could not show. */
function notProvable({ plan, left, end, inventory }: Rotation): string[] {
  const found: string[] = [];
  if (left.size > 0) {
    const gone = [...left.values()].map(({ role, id }) => `${id} (${role})`).join(", ");
    found.push(`anything of ${gone}: in the inventory during the rotation, and no longer when it ended`);
  }
  if (plan.from === undefined) return [...found, "a first issue: no old generation was there to be refused"];
  const until = iso(plan.from.notAfter);
  const expired = end?.how === "closed" && end.grade === "EXPIRED";
  if (!plan.revoke && !expired)
    found.push(
      `g${plan.from.number} was not seen refused: ${plan.grade.why}. Whoever holds its key can use it until ${until}`,
    );
  if (end?.how === "closed" && end.grade === "DENIED")
    found.push(`that g${plan.from.number} is refused: ${plan.grade.why}`);
  if (plan.revoke && plan.sensors.length === 0)
    found.push(
      `that nobody used g${plan.from.number} in the quiet window: no sensor is declared, so the window is a time bound`,
    );
  const watching = plan.sensors.length;
  const doors = inventory?.members.verifier.length ?? 0;
  if (plan.revoke && watching > 0 && watching < doors)
    found.push(
      `that nobody used g${plan.from.number} at the verifiers without a sensor: ${watching} sensors watch, and there are ${doors} verifiers`,
    );
  if (plan.revoke)
    found.push(
      "that connections opened before the removal are gone: only new connections and resumed sessions were tried",
    );
  if (plan.verifiers.length === 0 && plan.presenters.length > 0)
    found.push("what verifiers outside this manifest accept");
  if (plan.kind === "crl" && plan.verifiers.length === 0)
    found.push("that verifiers loaded this CRL: none was asked (stored is L1)");
  return found;
}
