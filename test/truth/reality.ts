/**
 * What really is, for the table to hold Gyre's word against: every replica asked by openssl and curl alone (lab/witness.ts),
 * what is stored read by openssl. Nothing here knows Gyre's code or has read its output.
 */
import { existsSync, writeFileSync } from "node:fs";
import { fingerprintOf, openssl, serialOf } from "../../lab/pki.ts";
import { type Answer, request, servedFingerprint } from "../../lab/witness.ts";
import type { Estate } from "./estate.ts";
import { keystorePassword, type Replica, serverName } from "./replicas.ts";

/** Something that is not as a finished rotation would have it, and where. */
export interface Trouble {
  readonly at: string;
  readonly what: string;
}

export interface Reality {
  /** The new one is used everywhere and the old one is refused wherever it can be. */
  readonly done: boolean;
  /** Everything is as it was before the rotation. */
  readonly asBefore: boolean;
  readonly troubles: readonly Trouble[];
  /** For people: `3/3 serve new, 3/3 refuse old`. */
  readonly words: string;
}

interface Pair {
  readonly certificate: string;
  readonly privateKey: string;
  readonly fingerprint: string;
  readonly serial: string;
}

/** A look of a scene's own; what it returns is not as it should be. */
export type ExtraLook = () => Promise<Trouble | undefined>;

type Judgement = "accepted" | "refused" | "no answer";

interface Seen {
  readonly replica: Replica;
  readonly stores: "old" | "new" | "nothing";
  readonly serves: "old" | "new" | "another" | "nothing";
  readonly chain: string | undefined;
  readonly old: Judgement;
  readonly asNew: Judgement;
  readonly anybody: boolean;
}

export async function lookOutside(estate: Estate, extra: readonly ExtraLook[] = []): Promise<Reality> {
  const old = pairOf(estate.old.certificate, estate.old.privateKey);
  const fresh = newPair(estate, old);
  const seen = await Promise.all(estate.replicas.map((replica) => lookAt(estate, replica, old, fresh)));
  const troubles = seen.flatMap((one) => troublesOf(one));
  for (const look of extra) {
    const trouble = await look();
    if (trouble !== undefined) troubles.push(trouble);
  }
  const asBefore =
    fresh === undefined &&
    seen.every(
      (one) => (one.serves === "old" || !one.replica.presents) && (!one.replica.verifies || one.old === "accepted"),
    );
  return { done: troubles.length === 0, asBefore, troubles, words: wordsOf(seen, troubles, estate) };
}

/** The leaf of a PEM file or key store, as a pair of files the witness can present. */
function storedPair(replica: Replica, estate: Estate): Pair | undefined {
  const { stored } = replica;
  if (!("keystore" in stored)) {
    return existsSync(stored.certificate) && existsSync(stored.privateKey)
      ? pairOf(stored.certificate, stored.privateKey)
      : undefined;
  }
  const [certificate, privateKey] = [
    estate.workspace.path(`${replica.name}.out.pem`),
    estate.workspace.path(`${replica.name}.out.key`),
  ];
  const from = ["pkcs12", "-in", stored.keystore, "-passin", `pass:${keystorePassword}`];
  writeFileSync(certificate, openssl([...from, "-nokeys", "-clcerts"]));
  writeFileSync(privateKey, openssl([...from, "-nocerts", "-nodes"]), { mode: 0o600 });
  return pairOf(certificate, privateKey);
}

const pairOf = (certificate: string, privateKey: string): Pair => ({
  ...{ certificate, privateKey },
  ...{ fingerprint: fingerprintOf(certificate), serial: serialOf(certificate) },
});

/** What any of the places holds that is not the old one. */
function newPair(estate: Estate, old: Pair): Pair | undefined {
  for (const replica of estate.replicas) {
    const pair = storedPair(replica, estate);
    if (pair !== undefined && pair.fingerprint !== old.fingerprint) return pair;
  }
  return undefined;
}

async function lookAt(estate: Estate, replica: Replica, old: Pair, fresh: Pair | undefined): Promise<Seen> {
  const { address, verifies } = replica;
  const look = { name: serverName, timeout: 5 };
  const show = (pair: Pair | undefined, roots?: string): Promise<Answer> =>
    request(address, {
      ...look,
      ...(pair === undefined || !verifies ? {} : { certificate: pair.certificate, privateKey: pair.privateKey }),
      ...(roots === undefined ? {} : { roots }),
    });
  const served = await servedFingerprint(address, serverName);
  const stored = storedPair(replica, estate);
  const asNew = await show(fresh);
  const checked = await show(fresh, estate.roots);
  return {
    replica,
    stores: stored === undefined ? "nothing" : stored.fingerprint === old.fingerprint ? "old" : "new",
    serves:
      served === undefined
        ? "nothing"
        : served === old.fingerprint
          ? "old"
          : served === fresh?.fingerprint
            ? "new"
            : "another",
    chain: asNew.saw === "reply" && checked.saw === "nothing" ? checked.why : undefined,
    old: verifies ? judge(await show(old), old) : "no answer",
    asNew: verifies && fresh === undefined ? "no answer" : judge(asNew, verifies ? fresh : undefined),
    anybody: verifies && judge(await request(address, look), undefined) === "accepted",
  };
}

/** Accepted is a 200 (that names whom it saw, where the server names anybody); refused a 400 or an alert; the rest neither. */
function judge(answer: Answer, shown: Pair | undefined): Judgement {
  if (answer.saw === "alert") return "refused";
  if (answer.saw === "nothing") return "no answer";
  if (answer.status === 400) return "refused";
  if (answer.status !== 200) return "no answer";
  const named = answer.headers["x-client-serial"];
  if (shown === undefined || named === undefined) return "accepted";
  return plainSerial(named) === shown.serial ? "accepted" : "no answer";
}
const plainSerial = (text: string): string =>
  text
    .toLowerCase()
    .replaceAll(":", "")
    .replace(/^0+(?=.)/, "");

function troublesOf(one: Seen): Trouble[] {
  const { replica, serves } = one;
  const at = (what: string): Trouble => ({ at: replica.name, what });
  const troubles: Trouble[] = [];
  if (one.stores !== "new") troubles.push(at(`${one.stores === "old" ? "the old one" : "nothing"} is stored`));
  if (serves === "nothing" || (replica.presents && serves !== "new"))
    troubles.push(
      at(serves === "nothing" ? "serves nothing" : `serves ${serves === "old" ? "the old one" : "another one"}`),
    );
  if (serves !== "nothing" && one.chain !== undefined) troubles.push(at(`its chain does not verify (${one.chain})`));
  if (!replica.verifies || serves === "nothing") return troubles;
  if (one.anybody) troubles.push(at("answers 200 to anybody"));
  if (one.old === "accepted") troubles.push(at("accepts the old one"));
  if (one.asNew === "refused") troubles.push(at("refuses the new one"));
  if (one.old === "no answer" || one.asNew === "no answer") troubles.push(at("gives no clear answer"));
  return troubles;
}

function wordsOf(seen: readonly Seen[], troubles: readonly Trouble[], estate: Estate): string {
  const count = (which: (one: Seen) => boolean, among = seen) => `${among.filter(which).length}/${among.length}`;
  const verifiers = seen.filter((one) => one.replica.verifies);
  const presenters = seen.filter((one) => one.replica.presents);
  const parts: string[] = [];
  if (presenters.length > 0) parts.push(`${count((one) => one.serves === "new", presenters)} serve the new one`);
  if (estate.mutual && verifiers.length > 0) {
    parts.push(`${count((one) => one.asNew === "accepted", verifiers)} accept it`);
    parts.push(`${count((one) => one.old === "refused", verifiers)} refuse the old one`);
  }
  // What all have in common is in the counts; what is told by name is what sets one apart.
  const apart = troubles.filter(({ what }) => troubles.filter((other) => other.what === what).length < seen.length);
  const told = apart.map(({ at, what }) => `${at} ${what}`);
  return [...parts, ...told].join("; ");
}
