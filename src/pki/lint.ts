import type { Certificate } from "./certificate.ts";
import { attributeValues } from "./distinguished-name.ts";
import { EXTENSION } from "./extensions.ts";
import { covers } from "./hostnames.ts";
import { parseGeneralName } from "./names.ts";

export interface LintFinding {
  /** `error`: verifiers refuse it or may; `warning`: works today, bites some; `note`: worth knowing. */
  readonly severity: "error" | "warning" | "note";
  readonly code: string;
  readonly message: string;
  /** Where the rule is written. */
  readonly reference: string;
}

export interface LintContext {
  readonly issuer?: Certificate;
  /** Milliseconds; without it nothing is said about today. */
  readonly now?: number;
}

type Rule = (certificate: Certificate, context: LintContext) => readonly LintFinding[];

const finding = (
  severity: LintFinding["severity"],
  code: string,
  reference: string,
  message: string,
): LintFinding[] => [{ severity, code, message, reference }];
const NONE: readonly LintFinding[] = [];
const DAY = 86_400_000;
const iso = (ms: number): string => new Date(ms).toISOString().slice(0, 19).concat("Z");

const isServer = (certificate: Certificate): boolean => certificate.extendedKeyUsage.includes("serverAuth");

// One rule each. The order is the order of the findings.
const RULES: readonly Rule[] = [
  (c) =>
    c.version === 3
      ? NONE
      : finding(
          "error",
          "version",
          "RFC 5280 4.1.2.1",
          `version ${c.version}: no extensions, so no names and no usages`,
        ),

  function serial(c) {
    const bytes = c.serialBytes;
    if (c.serial === "0" || c.serial.startsWith("-"))
      return finding("error", "serial-positive", "RFC 5280 4.1.2.2", `serial ${c.serial} is not positive`);
    if (bytes.length > 20)
      return finding(
        "error",
        "serial-length",
        "RFC 5280 4.1.2.2",
        `serial of ${bytes.length} octets; at most 20 are allowed`,
      );
    const octets = bytes[0] === 0 ? bytes.length - 1 : bytes.length;
    // What can be seen of entropy is length: 64 random bits are seldom shorter than 7 octets (once in 65,536).
    if (octets < 7 && !c.isSelfIssued)
      return finding(
        "warning",
        "serial-entropy",
        "CA/B BR 7.1",
        `serial ${c.serial} has fewer than 64 bits, so it cannot be random`,
      );
    return NONE;
  },

  (c) =>
    c.notAfter < c.notBefore
      ? finding(
          "error",
          "validity",
          "RFC 5280 4.1.2.5",
          `it ends (${iso(c.notAfter)}) before it begins (${iso(c.notBefore)})`,
        )
      : NONE,

  (c, { now }) => {
    if (now === undefined) return NONE;
    if (now >= c.notAfter) return finding("error", "expired", "RFC 5280 4.1.2.5", `expired since ${iso(c.notAfter)}`);
    return now < c.notBefore
      ? finding("error", "not-yet-valid", "RFC 5280 4.1.2.5", `valid from ${iso(c.notBefore)} only`)
      : NONE;
  },

  function names(c) {
    const san = c.extension(EXTENSION.subjectAltName);
    const found: LintFinding[] = [];
    if (c.subject === "" && san === undefined)
      found.push(...finding("error", "no-name", "RFC 5280 4.1.2.6", "neither a subject nor alternative names"));
    if (c.subject === "" && san !== undefined && !san.critical)
      found.push(
        ...finding(
          "error",
          "san-critical",
          "RFC 5280 4.2.1.6",
          "the subject is empty and subjectAltName is not critical; strict verifiers refuse it",
        ),
      );
    if (c.subject === "" && c.isCa)
      found.push(...finding("error", "ca-subject", "RFC 5280 4.1.2.6", "a CA with an empty subject"));
    if (san === undefined && isServer(c))
      found.push(
        ...finding(
          "error",
          "no-san",
          "RFC 9525 2",
          "a server certificate without subjectAltName: clients ignore the CN",
        ),
      );
    return found;
  },

  function commonName(c) {
    if (c.isCa || c.names.length === 0 || !isServer(c)) return NONE;
    const missing = attributeValues(c.subjectDer, "CN").filter(
      (cn) =>
        !covers(c.names, `DNS:${cn.toLowerCase()}`) &&
        !c.names.includes(`IP:${cn}`) &&
        !c.names.includes(`DNS:${cn.toLowerCase()}`),
    );
    return missing.flatMap((cn) =>
      finding(
        "warning",
        "cn-not-in-san",
        "CA/B BR 7.1.4.3",
        `CN ${JSON.stringify(cn)} is not among the alternative names`,
      ),
    );
  },

  function malformedNames(c) {
    return c.names.flatMap((name) => {
      if (!/^(DNS|IP|URI|email):/.test(name)) return [];
      try {
        parseGeneralName(name);
        return [];
      } catch (error) {
        return finding("warning", "name-syntax", "RFC 5280 4.2.1.6", error instanceof Error ? error.message : name);
      }
    });
  },

  (c) => {
    const { hash } = c.signatureDetails;
    if (hash !== "sha1" && hash !== "md5") return NONE;
    return finding(
      c.isSelfIssued ? "warning" : "error",
      "weak-hash",
      "RFC 9155 2",
      `signed with ${c.signatureAlgorithm}`,
    );
  },

  (c) => {
    const bits = c.algorithm.startsWith("RSA-") ? Number(c.algorithm.slice(4)) : 2048;
    return bits < 2048
      ? finding("error", "weak-key", "CA/B BR 6.1.5", `RSA key of ${bits} bits; 2048 is the least`)
      : NONE;
  },

  function authority(c) {
    const extension = c.extension(EXTENSION.basicConstraints);
    const found: LintFinding[] = [];
    if (c.isCa && extension?.critical === false)
      found.push(
        ...finding(
          "error",
          "basic-constraints-critical",
          "RFC 5280 4.2.1.9",
          "a CA whose basicConstraints is not critical",
        ),
      );
    if (c.isCa && c.extension(EXTENSION.keyUsage) !== undefined && !c.keyUsage.includes("keyCertSign"))
      found.push(...finding("error", "ca-key-usage", "RFC 5280 4.2.1.3", "a CA without keyCertSign in its key usage"));
    if (c.isCa && c.extension(EXTENSION.keyUsage) === undefined && c.version === 3)
      found.push(...finding("warning", "ca-no-key-usage", "RFC 5280 4.2.1.3", "a CA without key usage"));
    if (!c.isCa && c.keyUsage.includes("keyCertSign"))
      found.push(
        ...finding("error", "key-cert-sign", "RFC 5280 4.2.1.9", "keyCertSign in a certificate that is no CA"),
      );
    if (!c.isCa && c.pathLength !== undefined)
      found.push(
        ...finding("error", "path-length", "RFC 5280 4.2.1.9", "a path length in a certificate that is no CA"),
      );
    if (!c.isCa && c.nameConstraints !== undefined)
      found.push(
        ...finding("error", "name-constraints", "RFC 5280 4.2.1.10", "name constraints in a certificate that is no CA"),
      );
    return found;
  },

  function keyUsage(c) {
    const usage = c.keyUsage;
    const found: LintFinding[] = [];
    if (c.extension(EXTENSION.keyUsage) !== undefined && usage.length === 0)
      found.push(...finding("error", "key-usage-empty", "RFC 5280 4.2.1.3", "a key usage that allows nothing"));
    if (usage.includes("keyEncipherment") && !c.algorithm.startsWith("RSA-"))
      found.push(
        ...finding(
          "warning",
          "key-usage-algorithm",
          "RFC 8813 3",
          `keyEncipherment with a ${c.algorithm} key, which cannot encrypt`,
        ),
      );
    const tls = isServer(c) || c.extendedKeyUsage.includes("clientAuth");
    if (tls && !c.isCa && usage.length > 0 && !usage.includes("digitalSignature"))
      found.push(
        ...finding(
          "error",
          "key-usage-tls",
          "RFC 8446 4.4.2.2",
          "no digitalSignature: it cannot sign a TLS 1.3 handshake",
        ),
      );
    if (!c.isCa && c.version === 3 && c.extension(EXTENSION.extendedKeyUsage) === undefined)
      found.push(
        ...finding("note", "no-extended-key-usage", "RFC 5280 4.2.1.12", "no extended key usage: good for any purpose"),
      );
    return found;
  },

  function identifiers(c, { issuer }) {
    const found: LintFinding[] = [];
    if (c.isCa && c.ski === undefined)
      found.push(
        ...finding(
          "warning",
          "no-ski",
          "RFC 5280 4.2.1.2",
          "a CA without subjectKeyIdentifier: chains are found by name alone",
        ),
      );
    if (!c.isSelfIssued && c.version === 3 && c.aki === undefined)
      found.push(...finding("warning", "no-aki", "RFC 5280 4.2.1.1", "no authorityKeyIdentifier"));
    if (issuer?.ski !== undefined && c.aki !== undefined && c.aki !== issuer.ski)
      found.push(
        ...finding(
          "error",
          "aki-mismatch",
          "RFC 5280 4.2.1.1",
          `authorityKeyIdentifier ${c.aki} is not the issuer's ${issuer.ski}`,
        ),
      );
    if (c.isSelfIssued && c.ski !== undefined && c.aki !== undefined && c.aki !== c.ski)
      found.push(
        ...finding(
          "warning",
          "aki-self",
          "RFC 5280 4.2.1.1",
          "self-issued, but authorityKeyIdentifier is not its own key",
        ),
      );
    return found;
  },

  function withinIssuer(c, { issuer }) {
    if (issuer === undefined || issuer.der.equals(c.der)) return NONE;
    const found: LintFinding[] = [];
    if (!issuer.subjectDer.equals(c.issuerDer))
      found.push(
        ...finding(
          "error",
          "issuer-name",
          "RFC 5280 6.1.3",
          `issuer ${JSON.stringify(c.issuer)} is not ${JSON.stringify(issuer.subject)}`,
        ),
      );
    if (c.notAfter > issuer.notAfter)
      found.push(
        ...finding(
          "error",
          "outlives-issuer",
          "RFC 5280 6.1.3",
          `ends ${iso(c.notAfter)}, after its issuer (${iso(issuer.notAfter)})`,
        ),
      );
    if (c.notBefore < issuer.notBefore)
      found.push(
        ...finding(
          "warning",
          "predates-issuer",
          "RFC 5280 6.1.3",
          `begins ${iso(c.notBefore)}, before its issuer (${iso(issuer.notBefore)})`,
        ),
      );
    return found;
  },

  (c) =>
    !c.isCa && isServer(c) && c.names.some(isPublicName) && c.notAfter - c.notBefore > 398 * DAY
      ? finding(
          "note",
          "long-life",
          "CA/B BR 6.3.2",
          `valid for ${Math.round((c.notAfter - c.notBefore) / DAY)} days; browsers take at most 398 for public names`,
        )
      : NONE,

  (c) =>
    c.extensions.flatMap(({ oid, critical }) =>
      critical && !KNOWN.has(oid)
        ? finding(
            "error",
            "critical-extension",
            "RFC 5280 4.2",
            `critical extension ${oid} is not known: verifiers must refuse it`,
          )
        : [],
    ),
];

const KNOWN: ReadonlySet<string> = new Set([...Object.values(EXTENSION), "2.5.29.32", "2.5.29.36", "2.5.29.54"]);

// RFC 6761, RFC 8375, RFC 9476 and what clusters use: names no public CA certifies.
const PRIVATE =
  /(^|\.)(local|internal|localhost|test|example|invalid|lan|home|corp|alt|home\.arpa|cluster\.local|svc)$/;
function isPublicName(name: string): boolean {
  const host = name.startsWith("DNS:") ? name.slice(4) : "";
  return host.includes(".") && !PRIVATE.test(host);
}

/**
 * What is wrong with a certificate, or may bite. With `issuer` also what only shows beside it, with `now` (ms) also what
 * only shows today. Signatures are not checked here (see checkChain). Findings come in the order of the rules.
 */
export function lint(certificate: Certificate, context: LintContext = {}): LintFinding[] {
  return RULES.flatMap((rule) => rule(certificate, context));
}
