import type { ClaimName } from "../../engine/model.ts";
import { GyreError } from "../../errors.ts";
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
  readonly claim?: ClaimName;
}

export async function waive(session: Session, name: string, member: string, flags: WaiveFlags): Promise<ExitCode> {
  if (flags.reason.trim() === "")
    throw new GyreError({
      code: "input",
      message: "a waiver needs a reason: it stands on the receipt; nothing was written",
      next: "--reason TEXT",
    });
  if (flags.expires === 0)
    throw new GyreError({
      code: "input",
      message: "a waiver that expires at once waives nothing; nothing was written",
      next: "--expires 7d",
    });
  return session.withEstate(async (estate) => {
    knownName(name, estate.credentials);
    const by = flags.by ?? session.person;
    const { console } = session;
    const expires = console.now() + flags.expires;
    await estate.waive(name, member, {
      by,
      reason: flags.reason,
      expires,
      ...(flags.claim === undefined ? {} : { claim: flags.claim }),
    });
    console.data({ credential: name, member, claim: flags.claim, by, reason: flags.reason, expires });
    const what = flags.claim === undefined ? "everything asked of it" : flags.claim;
    console.say([
      ...wrap(
        `${name}: ${member} is waived for ${what} by ${by} until ${momentWords(expires, console.now())}`,
        console.width,
        2,
      ),
      ...wrap(
        `  it counts as unproven, never as proven, and stands on the receipt; to go on: ${commandWords("rotate", name)}`,
        console.width,
        4,
      ),
    ]);
    return exits.ok;
  });
}

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
