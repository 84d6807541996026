import { GyreError } from "../../errors.ts";
import type { CredentialStatus } from "../../runtime/api.ts";
import { type ExitCode, exits } from "../exit.ts";
import { knownName } from "../names.ts";
import { doctorLines } from "../render/doctor.ts";
import { planLines } from "../render/plan.ts";
import { showLines } from "../render/show.ts";
import { statusLines } from "../render/status.ts";
import { unnamedDiagnosis, unnamedLines } from "../render/unnamed.ts";
import { whoLines } from "../render/who.ts";
import type { Session } from "../session.ts";

/** Commands that only ask: plan, status, show, who, doctor. */

export async function plan(session: Session, name: string, flags: { now?: boolean }): Promise<ExitCode> {
  return session.withEstate(async (estate) => {
    knownName(name, estate.credentials);
    const planned = await estate.plan(name, flags.now === true ? { now: true } : {});
    session.console.data({ credential: name, ...planned });
    session.console.say(planLines(name, planned, session.console.now(), session.console.width));
    return exits.ok;
  });
}

export async function status(session: Session, names: readonly string[]): Promise<ExitCode> {
  return session.withEstate(async (estate) => {
    for (const name of names) knownName(name, estate.credentials);
    const all = await estate.status();
    const shown = names.length === 0 ? all : all.filter((one) => names.includes(one.name));
    const { console } = session;
    const unnamed = names.length === 0 ? await estate.unnamed() : [];
    console.data({ credentials: shown.map(statusData), unnamed: unnamed.map(statusData) });
    console.say([
      ...statusLines(shown, console.now(), console.width),
      ...unnamedLines(unnamed, console.now(), console.width),
    ]);
    return shown.some((one) => one.problem !== undefined) ? exits.unanswered : exits.ok;
  });
}

/** The rotation under way in short: all of it is in `show`. */
function statusData({ active, ...rest }: Partial<CredentialStatus>): object {
  if (active === undefined) return rest;
  const { id, digest, plannedAt, held, reverting, plan: planned } = active;
  const from = planned.from?.number;
  return {
    ...rest,
    active: { rotation: id, digest, plannedAt, from, to: planned.to, passed: active.passed, held, reverting },
  };
}

export async function show(session: Session, name: string, flags: { evidence?: string }): Promise<ExitCode> {
  return session.withEstate(async (estate) => {
    const unnamed = await estate.unnamed();
    knownName(name, [...estate.credentials, ...unnamed.map((journal) => journal.name)]);
    const shown = await estate.show(name);
    if (flags.evidence !== undefined) {
      const { readEvidence } = await import("../evidence-file.ts");
      session.console.raw(await readEvidence(estate.stateDirectory, shown, flags.evidence));
      return exits.ok;
    }
    session.console.data({
      credential: name,
      lineage: { ...shown.lineage, active: shown.lineage.active?.id },
      entries: shown.entries,
    });
    session.console.say(showLines(name, shown, session.console.now(), session.console.width));
    return exits.ok;
  });
}

export async function who(session: Session, fingerprint: string): Promise<ExitCode> {
  const hex = fingerprint
    .replace(/^sha256:/i, "")
    .replaceAll(":", "")
    .toLowerCase();
  if (!/^[0-9a-f]{8,64}$/.test(hex)) {
    throw new GyreError({
      code: "input",
      message: `${JSON.stringify(fingerprint)} is no SHA-256 fingerprint: 8 to 64 hex digits, with or without colons; nothing was looked up`,
      next: "openssl x509 -in FILE -noout -fingerprint -sha256",
    });
  }
  return session.withEstate(async (estate) => {
    const found = await estate.who(hex);
    session.console.data({ fingerprint: hex, found });
    session.console.say(whoLines(hex, found, session.console.now(), session.console.width));
    return found.length === 0 ? exits.unanswered : exits.ok;
  });
}

export async function doctor(session: Session, name: string): Promise<ExitCode> {
  return session.withEstate(async (estate) => {
    const names =
      name === "all" && !estate.credentials.includes("all")
        ? estate.credentials
        : [knownName(name, estate.credentials)];
    const { console } = session;
    const results = [];
    for (const one of names) {
      const found = await estate.doctor(one);
      results.push({ credential: one, found });
      const shown = console.quiet ? found.filter(({ level }) => level === "problem" || level === "warning") : found;
      if (!console.quiet || shown.length > 0) console.say(doctorLines(one, shown, console.width));
    }
    // A rotation that nobody goes on with may be of the one that was asked about, under its old name.
    const unnamed = (await estate.unnamed()).filter(({ active }) => name === "all" || active !== undefined);
    for (const journal of unnamed) {
      const found = unnamedDiagnosis(journal, console.now());
      results.push({ credential: journal.name, found: [found] });
      if (!console.quiet || found.level === "warning") console.say(doctorLines(journal.name, [found], console.width));
    }
    const problem = results.some(({ found }) => found.some(({ level }) => level === "problem"));
    const exit = problem ? exits.held : exits.ok;
    console.data({ results, exit });
    return exit;
  });
}
