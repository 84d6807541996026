import { readFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { GyreError } from "../../errors.ts";
import type { ClusterByName } from "../kubernetes/cluster.ts";
import type { Member, Presenter, ProbeResult, Step } from "../roles.ts";
import { anonymousContext } from "./client-context.ts";
import { exchange } from "./exchange.ts";
import { type Dial, type Limits, type Look, look } from "./handshake.ts";
import { clockDifference, detailOf, wordsOf } from "./look-words.ts";
import { membersOf, type Names, systemNames } from "./members.ts";
import { fingerprintsOf, mustBeRoots, problemOf } from "./presented-chain.ts";
import type { PresenterSettings } from "./settings.ts";

export interface TlsOptions {
  /** Relative paths in the settings are taken from here. */
  readonly baseDir?: string;
  /** Milliseconds since the epoch, for certificate dates. */
  readonly now?: () => number;
  readonly limits?: Partial<Limits>;
  readonly names?: Names;
  /** For `endpoints`. */
  readonly cluster?: ClusterByName;
}

/** Servers that present the credential, each dialled itself: a fresh full handshake, no resumption, no pool (L3). */
export function createTlsPresenter(settings: PresenterSettings, options: TlsOptions = {}): Presenter {
  const { serverName } = settings;
  const now = options.now ?? Date.now;
  return {
    can: {},
    ...(settings.addresses === undefined ? {} : { listed: settings.addresses }),
    members: () => membersOf(settings, options.names ?? systemNames, options.cluster),
    async check() {
      await readRoots(settings.roots, options.baseDir);
    },
    async probe(member: Member, roots: string, step: Step): Promise<ProbeResult> {
      const trusted = (await readRoots(settings.roots, options.baseDir)) ?? roots;
      const dial: Dial = {
        ...{ address: member.address, serverName, context: anonymousContext() },
        ...(options.limits === undefined ? {} : { limits: options.limits }),
      };
      const seen = await lookAtChain(dial, step.signal);
      if (seen.chain.length === 0) return { saw: "unknown", why: wordsOf(seen), detail: detailOf(seen) };
      // Asked without roots (`who`, `scan`): what is there, not whether it is right.
      const problem = trusted.trim() === "" ? undefined : problemOf(seen.chain, trusted, serverName, now());
      return {
        ...{ saw: "presented", chain: fingerprintsOf(seen.chain), detail: detailOf(seen) },
        ...(problem === undefined ? {} : { problem }),
      };
    },
    async clock(member: Member, step: Step): Promise<number | undefined> {
      const dial = {
        ...{ address: member.address, serverName, context: anonymousContext() },
        ...(options.limits === undefined ? {} : { limits: options.limits }),
      };
      const request = { method: "HEAD", path: "/", expect: 200 } as const;
      const { reply, at } = await exchange(dial, { request, serverName, tag: step.tag, now, hush: 0 }, step.signal);
      return clockDifference(reply?.headers.get("date"), at);
    },
  };
}

/**
 * A server that demands a client certificate still presents its own; in TLS 1.2 it then breaks the handshake off, and
 * the chain can be had only by taking it in the middle. That is the second look.
 */
async function lookAtChain(dial: Dial, signal: AbortSignal): Promise<Look> {
  const first = await look(dial, signal);
  const { trouble } = first;
  if (first.chain.length > 0 || trouble === undefined || trouble.at === "connect") return first;
  if (trouble.alert === undefined && !trouble.abrupt) return first;
  return look({ ...dial, early: true }, signal);
}

/** Roots named in the settings, read anew at every look, since a bundle is rotated too. Throws `input` or `permission`. */
export async function readRoots(path: string | undefined, baseDir = "."): Promise<string | undefined> {
  if (path === undefined) return undefined;
  const file = resolve(baseDir, path);
  const text = await contentOf(file);
  mustBeRoots(text, file);
  return text;
}

async function contentOf(file: string): Promise<string> {
  try {
    // A pipe would keep the reader waiting, a device has no end.
    if (!(await stat(file)).isFile()) throw Object.assign(new Error("no regular file"), { code: "no regular file" });
    return await readFile(file, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new GyreError({
      code: code === "EACCES" || code === "EPERM" ? "permission" : "input",
      message: `tls: the CA bundle ${file} cannot be read (${code}); nothing was dialled`,
      where: file,
      next: "check `roots`",
      cause: error,
    });
  }
}
