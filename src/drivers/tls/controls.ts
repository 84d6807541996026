import { parseCertificates } from "../../pki/certificate.ts";
import type { CredentialHandle, Member, Step } from "../roles.ts";
import type { Asker } from "./asker.ts";
import { anonymousContext, contextFor } from "./client-context.ts";
import type { Exchange } from "./exchange.ts";
import { wordsOf } from "./look-words.ts";
import { refusalOf } from "./refusals.ts";
import type { VerifierSettings } from "./settings.ts";
import { makeStranger } from "./stranger.ts";

/** Controls of one round may be shared by its probes; a reload in between must not be missed for long. Milliseconds. */
const keptFor = 2_000;

interface Kept {
  readonly tag: string;
  readonly until: number;
  readonly answer: Promise<string | undefined>;
}

/**
 * Does an answer depend on the credential? The same request from the same place, once without a certificate and once
 * with a stranger's of the same subject, must be refused; otherwise a 200 says nothing about the credential.
 */
export class Controls {
  readonly #settings: VerifierSettings;
  readonly #ask: Asker;
  readonly #now: () => number;
  readonly #kept = new Map<string, Kept>();

  constructor(settings: VerifierSettings, ask: Asker, now: () => number) {
    this.#settings = settings;
    this.#ask = ask;
    this.#now = now;
  }

  /** Undefined when both controls were refused; otherwise why the answer proves nothing. */
  whyBlind(member: Member, credential: CredentialHandle, step: Step): Promise<string | undefined> {
    const at = performance.now();
    for (const [key, kept] of this.#kept) if (kept.until < at) this.#kept.delete(key);
    const subject = parseCertificates(credential.certificate, "client certificate")[0]?.subject ?? "";
    const key = `${member.address} ${subject}`;
    const kept = this.#kept.get(key);
    if (kept?.tag === step.tag) return kept.answer;
    const answer = this.#look(member, subject, step);
    this.#kept.set(key, { tag: step.tag, until: at + keptFor, answer });
    // A look that was stopped is no answer to the next one.
    answer.catch(() => this.#kept.delete(key));
    return answer;
  }

  async #look(member: Member, subject: string, step: Step): Promise<string | undefined> {
    const without = await this.#ask(member, { context: anonymousContext() }, step);
    if (!this.#refused(without)) return `the same request without a certificate is not refused (${saying(without)})`;
    const stranger = await makeStranger(subject, this.#now());
    const foreign = await this.#ask(member, { context: contextFor(stranger) }, step);
    stranger.privateKey.wipe();
    if (!this.#refused(foreign))
      return `a stranger's certificate of the same subject is not refused (${saying(foreign)})`;
    return undefined;
  }

  #refused({ look, reply }: Exchange): boolean {
    const alert = look.trouble?.alert;
    const answer = reply === undefined ? {} : { status: reply.status, body: reply.body };
    return refusalOf(this.#settings.server, { ...(alert === undefined ? {} : { alert }), ...answer }) !== undefined;
  }
}

function saying({ look, reply, word, broken }: Exchange): string {
  if (reply !== undefined) return `answered ${reply.status}`;
  return word ?? broken ?? wordsOf(look);
}
