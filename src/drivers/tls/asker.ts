import type { SecureContext } from "node:tls";
import type { Secret } from "../../pki/secret.ts";
import type { Member, Step } from "../roles.ts";
import { type Exchange, exchange } from "./exchange.ts";
import type { TlsOptions } from "./presenter.ts";
import type { VerifierSettings } from "./settings.ts";

/** With what a connection is opened: a context (with or without client certificate) and perhaps a session to resume. */
export interface Shown {
  readonly context: SecureContext;
  readonly session?: Secret;
}
export type Asker = (member: Member, shown: Shown, step: Step) => Promise<Exchange>;

/** How often a connection that broke without an alert is tried again before the look is left unknown. */
const attempts = 3;

/**
 * One question to one member, repeated where the answer may have been lost: a server that sends an alert and closes
 * while our request is on its way provokes a reset, which overtakes the alert. The repeats listen before they speak.
 */
export function createAsker(settings: VerifierSettings, options: TlsOptions): Asker {
  const { request, serverName } = settings;
  return async (member, { context, session }, step) => {
    let hush = 0;
    for (let attempt = 1; ; attempt++) {
      const dial = {
        ...{ address: member.address, serverName, context },
        // The server is checked even when it breaks the handshake off (TLS 1.2).
        ...{ early: settings.roots !== undefined },
        ...(session === undefined ? {} : { session: session.use((bytes) => Buffer.from(bytes)) }),
        ...(options.limits === undefined ? {} : { limits: options.limits }),
      };
      const asking = { request, serverName, tag: step.tag, now: options.now ?? Date.now, hush };
      const asked = await exchange(dial, asking, step.signal);
      if (attempt === attempts || !mayHaveLostAnAlert(asked)) return asked;
      hush = attempt * Math.max(100, 4 * (asked.look.connectedAfter ?? 0));
    }
  };
}

const mayHaveLostAnAlert = ({ look }: Exchange): boolean => look.trouble?.abrupt === true;
