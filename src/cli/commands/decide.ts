import type { ClaimName } from "../../engine/model.ts";
import { GyreError } from "../../errors.ts";
import type { Estate } from "../../runtime/api.ts";
import { type ExitCode, exits } from "../exit.ts";
import { wrap } from "../layout.ts";
import { knownName } from "../names.ts";
import type { Session } from "../session.ts";
import { commandWords, momentWords } from "../words.ts";

/** What a person takes on by name: waive, approve. */

export interface WaiveFlags {
  readonly reason: string;
  readonly by?: string;
  /** Milliseconds from now. */
  readonly expires: number;
  readonly claim?: readonly ClaimName[];
  readonly withdraw?: boolean;
}

export async function waive(session: Session, name: string, member: string, flags: WaiveFlags): Promise<ExitCode> {
  if (flags.reason.trim() === "")
    throw new GyreError({
      code: "input",
      message: "a waiver, or its end, needs a reason: it stands on the receipt; nothing was written",
      next: "--reason TEXT",
    });
  if (flags.expires === 0)
    throw new GyreError({
      code: "input",
      message: "a waiver that expires at once waives nothing; nothing was written",
      next: "--expires 7d",
    });
  return session.withEstate((estate) => {
    knownName(name, estate.credentials);
    return flags.withdraw === true
      ? withdraw(session, estate, name, member, flags)
      : accept(session, estate, name, member, flags);
  });
}

async function accept(session: Session, estate: Estate, name: string, member: string, flags: WaiveFlags) {
  const { console } = session;
  const { reason } = flags;
  const by = flags.by ?? session.person;
  const expires = console.now() + flags.expires;
  const claims = await estate.waive(name, member, { by, reason, expires, ...named(flags) });
  console.data({ credential: name, member, claims, by, reason, expires });
  tell(session, [
    `${name}: ${member} is waived for ${claims.join(", ")} by ${by} until ${momentWords(expires, console.now())}`,
    `it counts as unproven, never as proven, and stands on the receipt; to go on: ${commandWords("rotate", name)}`,
    `to take it back: ${commandWords("waive", name, member, "--withdraw", "--reason", "...")}`,
  ]);
  return exits.ok;
}

async function withdraw(session: Session, estate: Estate, name: string, member: string, flags: WaiveFlags) {
  const { reason } = flags;
  const by = flags.by ?? session.person;
  const withdrawn = await estate.withdrawWaiver(name, member, { by, reason, ...named(flags) });
  session.console.data({ credential: name, member, withdrawn, by, reason });
  const what = withdrawn.map(({ claim }) => claim ?? "everything asked of it");
  tell(session, [
    `${name}: ${member} is no longer waived for ${what.join(", ")}: withdrawn by ${by}`,
    `it must be seen like the others, and both stand on the receipt; to go on: ${commandWords("rotate", name)}`,
  ]);
  return exits.ok;
}

const named = ({ claim }: WaiveFlags) => (claim === undefined ? {} : { claims: claim });

/** What was done, and below it what follows. */
const tell = ({ console }: Session, [done = "", ...more]: readonly string[]): void =>
  console.say([...wrap(done, console.width, 2), ...more.flatMap((text) => wrap(`  ${text}`, console.width, 4))]);

export async function approve(session: Session, name: string, flags: { by?: string }): Promise<ExitCode> {
  return session.withEstate(async (estate) => {
    knownName(name, estate.credentials);
    const by = flags.by ?? session.person;
    const digest = await estate.approve(name, { by });
    session.console.data({ credential: name, by, plan: digest });
    session.console.say(
      wrap(
        `${name}: approved by ${by} for plan ${digest}, and for no other; to go on: ${commandWords("rotate", name)}`,
        session.console.width,
        2,
      ),
    );
    return exits.ok;
  });
}
