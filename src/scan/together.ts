import { basename } from "node:path";
import type { Certificate } from "../pki/certificate.ts";
import { orderOf, placesOf } from "./chains.ts";
import type { Item } from "./contents.ts";
import { type Finding, type Found, type FoundPrivateKey, problem, wordsOf } from "./found.ts";
import { judgeCertificate, judgeOther, type KeyAt, writable } from "./judge.ts";
import { type Carried, readKubeconfig } from "./kubeconfig.ts";
import type { ScanOptions } from "./scan.ts";

/**
 * What is judged together, a directory or a Secret: its keys, and the certificates they were found to belong to. Let go
 * when it is done.
 */
export class Together {
  readonly options: Required<ScanOptions>;
  readonly #bySpki = new Map<string, KeyAt>();
  readonly #byStem = new Map<string, KeyAt[]>();
  readonly #keys: FoundPrivateKey[] = [];
  /** Where the certificates of each key are, by SPKI digest. */
  readonly #holders = new Map<string, string[]>();

  constructor(options: Required<ScanOptions>) {
    this.options = options;
  }

  /** A key is told at the end of its directory, when its certificates are known. */
  addKey(item: Extract<Item, { is: "key" }>, path: string, mode: number | undefined): void {
    this.#keys.push(judgeOther(item, this.options.now, mode) as FoundPrivateKey);
    if (item.key === undefined) return;
    const at = { where: item.where, key: item.key };
    this.#bySpki.set(item.key.spki, at);
    this.#byStem.set(stem(path), [...(this.#byStem.get(stem(path)) ?? []), at]);
    this.#holders.set(item.where, []);
  }

  get hasKeys(): boolean {
    return this.#bySpki.size > 0;
  }

  besides(path: string): readonly KeyAt[] {
    return this.#byStem.get(stem(path)) ?? [];
  }

  readonly keyOf = (spki: string): KeyAt | undefined => this.#bySpki.get(spki);

  note(found: Found): void {
    if ("key" in found && found.key?.matches) this.#holders.get(found.key.where)?.push(found.where);
  }

  keys(): FoundPrivateKey[] {
    return this.#keys.map((key) => ({ ...key, matches: this.#holders.get(key.where) ?? [] }));
  }
}

/** Names by which tools put a key beside its certificate: `shop.key`, `shop-key.pem`, `tls.crt`, `privkey.pem`. */
export function stem(path: string): string {
  const name = basename(path)
    .toLowerCase()
    .replace(/\.(pem|crt|cer|cert|der|key|combined)$/, "")
    .replace(/[-_.](key|cert|crt|fullchain|chain|bundle)$/, "");
  return /^(privkey|fullchain|cert|key|tls)\d*$/.test(name) ? name.replace(/^\D+/, "=") : name;
}

/** `mode`: of the file, where there is one. Keys are told at the end, by `keys`. */
export function* judgeItems(
  items: readonly Item[],
  path: string,
  mode: number | undefined,
  around: Together,
  extra: (certificate: Certificate) => readonly Finding[] = () => [],
): Generator<Found> {
  const { now, lint } = around.options;
  const own: KeyAt[] = [];
  for (const item of items)
    if (item.is === "key") {
      around.addKey(item, path, mode);
      if (item.key) own.push({ where: item.where, key: item.key });
    }
  const certificates = items.filter((item) => item.is === "certificate");
  const places = placesOf(certificates.map((item) => item.certificate));
  const order = own.length > 0 ? orderOf(certificates.map((item) => item.certificate)) : [];
  let at = 0;
  for (const item of items) {
    if (item.is === "key") continue;
    if (item.is !== "certificate") {
      yield judgeOther(item, now, mode);
      continue;
    }
    const place = places[at++];
    const found = judgeCertificate(item.where, item.certificate, {
      ...{ now, lint },
      ...(place?.issuer ? { issuer: place.issuer } : {}),
      ...(place ? { chain: { position: place.position, of: place.of } } : {}),
      beside: own.length > 0 ? own : around.besides(path),
      ...(around.hasKeys ? { keyOf: around.keyOf } : {}),
      more: [...(at === 1 ? order : []), ...writable(mode), ...extra(item.certificate)],
    });
    around.note(found);
    yield found;
  }
}

/** Wipes `bytes`. `judgeEntry` is given what one user or cluster holds: it belongs together, wherever it stands. */
export function* judgeKubeconfig(
  bytes: Buffer,
  path: string,
  judgeEntry: (carried: readonly Carried[]) => Iterable<Found>,
): Generator<Found> {
  let config: ReturnType<typeof readKubeconfig>;
  try {
    config = readKubeconfig(bytes, path);
  } catch (error) {
    yield problem(path, wordsOf(error));
    return;
  } finally {
    bytes.fill(0);
  }
  for (const { where, message } of config.problems) yield problem(where, message);
  yield* config.tokens;
  for (const where of new Set(config.carried.map((one) => one.where)))
    yield* judgeEntry(config.carried.filter((one) => one.where === where));
}

/** What is wrong with a certificate that stands where clients of a server look for its CA. */
export function anchorFindings(certificate: Certificate): readonly Finding[] {
  if (certificate.isCa) return [];
  const usages = certificate.extendedKeyUsage;
  if (usages.length > 0 && !usages.includes("serverAuth"))
    return [
      { severity: "error", code: "not-a-ca", message: "it is a client certificate: no server is verified by it" },
    ];
  // A server that presents this very certificate is verified by it all the same (Go, OpenSSL with partial chains).
  if (certificate.isSelfIssued) return [];
  const message = "it is no CA: only a server that presents this very certificate is verified by it";
  return [{ severity: "warning", code: "not-a-ca", message }];
}

/** For one entry of a kubeconfig: a cluster's CA, or a user's certificate. */
export const entryFindings = (carried: readonly Carried[]): ((certificate: Certificate) => readonly Finding[]) =>
  carried[0]?.field === "certificate-authority" ? anchorFindings : () => [];
