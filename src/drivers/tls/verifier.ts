import { GyreError } from "../../errors.ts";
import { parseCertificates } from "../../pki/certificate.ts";
import { Secret } from "../../pki/secret.ts";
import type { CredentialHandle, Member, ProbeResult, Step, Verifier } from "../roles.ts";
import { createAsker } from "./asker.ts";
import { contextFor } from "./client-context.ts";
import { Controls } from "./controls.ts";
import type { Exchange } from "./exchange.ts";
import { whomItNames } from "./identity.ts";
import { clockDifference, detailOf, wordsOf } from "./look-words.ts";
import { membersOf, systemNames } from "./members.ts";
import { problemOf } from "./presented-chain.ts";
import { readRoots, type TlsOptions } from "./presenter.ts";
import { refusalOf } from "./refusals.ts";
import type { VerifierSettings } from "./settings.ts";

/**
 * Servers that check the credential as a client certificate. Each probe is a fresh connection to the member itself; a
 * complete reply to a request sent after the handshake is judged, since a TLS 1.3 server judges the certificate only
 * then. Accepted needs an answer that depends on the credential; refused needs a row of the server's refusal table.
 */
export function createTlsVerifier(settings: VerifierSettings, options: TlsOptions = {}): Verifier {
  const asker = createAsker(settings, options);
  const controls = new Controls(settings, asker, options.now ?? Date.now);
  const judge = createJudge(settings, options, controls);
  const ask = (member: Member, credential: CredentialHandle, step: Step, session?: Secret) =>
    asker(member, { context: contextFor(credential), ...(session === undefined ? {} : { session }) }, step);
  return {
    can: { canRefuse: settings.refuses !== "nothing", sessions: true },
    ...(settings.addresses === undefined ? {} : { listed: settings.addresses }),
    members: () => membersOf(settings, options.names ?? systemNames, options.cluster),
    async check() {
      await readRoots(settings.roots, options.baseDir);
    },
    probe: async (member, credential, step) => judge(member, credential, step, await ask(member, credential, step)),
    async session(member, credential, step) {
      const asked = await ask(member, credential, step);
      if (firstReading(settings, asked).is === "refused") return undefined;
      if (firstReading(settings, asked).is === "unknown") throw notOpened(member, asked);
      const last = asked.look.sessions.at(-1);
      return last === undefined ? undefined : Secret.of(last);
    },
    resume: async (member, session, credential, step) =>
      judge(member, credential, step, await ask(member, credential, step, session)),
  };
}

type Reading =
  | { readonly is: "refused"; readonly code: string; readonly means: string }
  | { readonly is: "unknown"; readonly why: string }
  | { readonly is: "expected" };

/** The answer to a shown credential on its own, before asking whether it depends on the credential. */
export function firstReading(settings: VerifierSettings, { look, reply, word, broken }: Exchange): Reading {
  const refusal = refusalOf(settings.server, {
    ...(look.trouble?.alert === undefined ? {} : { alert: look.trouble.alert }),
    ...(reply === undefined ? {} : { status: reply.status, body: reply.body }),
  });
  if (refusal?.of === "credential") return { is: "refused", code: refusal.code, means: refusal.means };
  if (refusal !== undefined)
    return { is: "unknown", why: `${refusal.code}: ${refusal.means}, though one was sent; no judgement on it` };
  if (look.trouble !== undefined) return { is: "unknown", why: wordsOf(look) };
  if (broken !== undefined) return { is: "unknown", why: broken };
  if (settings.request === "none") return word === undefined ? { is: "unknown", why: "no word" } : { is: "expected" };
  const { expect } = settings.request;
  if (reply?.status === expect) return { is: "expected" };
  return {
    is: "unknown",
    why: `answered ${reply?.status}, which is neither the expected ${expect} nor a refusal of ${settings.server}`,
  };
}

type Judge = (member: Member, credential: CredentialHandle, step: Step, asked: Exchange) => Promise<ProbeResult>;

function createJudge(settings: VerifierSettings, options: TlsOptions, controls: Controls): Judge {
  const now = options.now ?? Date.now;
  /** The server itself: whoever sits on the address could say "refused". Without roots it is not checked, and the detail says so. */
  const impostor = async ({ look }: Exchange): Promise<string | undefined> => {
    const roots = await readRoots(settings.roots, options.baseDir);
    if (roots === undefined || look.resumed || (look.chain.length === 0 && look.trouble !== undefined))
      return undefined;
    return problemOf(look.chain, roots, settings.serverName, now());
  };
  return async (member, credential, step, asked) => {
    const detail = { ...evidenceOf(asked), serverChecked: settings.roots !== undefined };
    const problem = await impostor(asked);
    if (problem !== undefined)
      return { saw: "unknown", why: `the server itself cannot be trusted: ${problem}`, detail };
    const reading = firstReading(settings, asked);
    if (reading.is === "refused")
      return { saw: "refused", code: reading.code, detail: { ...detail, means: reading.means } };
    if (reading.is === "unknown") return { saw: "unknown", why: reading.why, detail };
    const named = namedBy(settings, credential, asked);
    if (named.is === "other")
      return {
        ...{ saw: "unknown", detail },
        why: `${named.header} names ${JSON.stringify(named.value)}, not the certificate that was shown: something in between uses another identity`,
      };
    if (named.is === "ours") return { saw: "accepted", as: named.value, detail: { ...detail, basis: named.header } };
    const blind = await controls.whyBlind(member, credential, step);
    if (blind !== undefined) return { saw: "unknown", why: `${named.why}${blind}`, detail };
    return { saw: "accepted", as: `serial ${credential.serial}`, detail: { ...detail, basis: "controls" } };
  };
}

type Named =
  | { readonly is: "ours"; readonly header: string; readonly value: string }
  | { readonly is: "other"; readonly header: string; readonly value: string }
  | { readonly is: "silent"; readonly why: string };

function namedBy({ request }: VerifierSettings, credential: CredentialHandle, { reply }: Exchange): Named {
  if (request === "none" || request.identityHeader === undefined) return { is: "silent", why: "" };
  const header = request.identityHeader;
  const value = reply?.headers.get(header.toLowerCase());
  if (value === undefined) return { is: "silent", why: `the reply has no ${header}, and ` };
  const [certificate] = parseCertificates(credential.certificate, "client certificate");
  const naming = certificate === undefined ? "none" : whomItNames(value, certificate);
  if (naming === "subject")
    return { is: "silent", why: `${header} names the subject, which any certificate may carry, and ` };
  if (naming === "none") return { is: "silent", why: `${header} names nobody, and ` };
  return { is: naming, header, value: value.slice(0, 200) };
}

function evidenceOf({ look, reply, at, word }: Exchange): Record<string, string | number | boolean> {
  const clock = clockDifference(reply?.headers.get("date"), at);
  return {
    ...detailOf(look),
    ...(reply === undefined ? {} : { status: reply.status }),
    ...(word === undefined ? {} : { word }),
    ...(clock === undefined ? {} : { clockDifference: clock }),
  };
}

const notOpened = (member: Member, asked: Exchange): GyreError =>
  new GyreError({
    code: "unreachable",
    message: `tls: no session could be opened with ${member.id} (${asked.look.trouble === undefined ? `status ${asked.reply?.status ?? "none"}` : wordsOf(asked.look)}); nothing was changed there`,
    where: member.id,
    retry: "later",
    next: "see whether the server answers its usual request",
  });
