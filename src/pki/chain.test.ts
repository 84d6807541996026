import { beforeAll, describe, expect, it } from "vitest";
import { DAY, type Estate, forged, leafOf, makeEstate, middleOf, NOW, rootOf } from "../../test/judges/pki/estate.ts";
import { go, openssl, withFiles } from "../../test/judges/pki/judge.ts";
import { Certificate } from "./certificate.ts";
import { type ChainQuestion, checkChain } from "./chain.ts";
import { type Crl, signCrl } from "./crl.ts";
import { boolean, integer, octetString } from "./der.ts";
import {
  EXTENSION,
  writeBasicConstraints,
  writeExtendedKeyUsage,
  writeExtension,
  writeKeyUsage,
  writeSubjectAltName,
} from "./extensions.ts";
import type { CertificateAuthority } from "./issue.ts";
import { generateKey, type PrivateKey } from "./keys.ts";

interface Scene {
  readonly leaf: Certificate;
  readonly intermediates: readonly Certificate[];
  readonly roots: readonly Certificate[];
  readonly at?: number;
  readonly purpose?: "server" | "client";
  readonly name?: string;
  readonly crls?: readonly Crl[];
}

let estate: Estate;
let strangerKey: PrivateKey;
beforeAll(async () => {
  [estate, strangerKey] = await Promise.all([makeEstate(), generateKey("P-256")]);
});

const good = (more: Partial<Scene> = {}): Scene => ({
  leaf: estate.leaf,
  intermediates: [estate.middle.certificate],
  roots: [estate.root.certificate],
  ...more,
});

function ours(scene: Scene) {
  const { leaf, intermediates, roots, at = NOW, purpose = "server", name, crls } = scene;
  const question: ChainQuestion = {
    leaf,
    intermediates,
    roots,
    at: [at],
    purpose,
    ...(name === undefined ? {} : { names: [`DNS:${name}`] }),
    ...(crls === undefined ? {} : { crls }),
  };
  return checkChain(question);
}

function opensslSays(scene: Scene): boolean {
  const pem = (list: readonly Certificate[]) => list.map((one) => one.pem).join("");
  const crls = (scene.crls ?? []).map((crl) => crl.pem).join("");
  const files = { roots: pem(scene.roots), untrusted: pem(scene.intermediates), leaf: scene.leaf.pem, crls };
  return withFiles(files, (path) => {
    const args = [
      "verify",
      "-x509_strict",
      "-auth_level",
      "2",
      "-attime",
      String(Math.floor((scene.at ?? NOW) / 1000)),
    ];
    args.push("-purpose", scene.purpose === "client" ? "sslclient" : "sslserver", "-CAfile", path("roots"));
    if (scene.intermediates.length > 0) args.push("-untrusted", path("untrusted"));
    if (scene.name !== undefined) args.push("-verify_hostname", scene.name);
    if (scene.crls !== undefined) args.push("-crl_check_all", ...(crls === "" ? [] : ["-CRLfile", path("crls")]));
    return openssl([...args, path("leaf")]).ok;
  });
}

function goSays({ leaf, intermediates, roots, at = NOW, purpose = "server", name }: Scene): boolean {
  const pems = (list: readonly Certificate[]) => list.map((one) => one.pem);
  const question = {
    op: "verify",
    pem: leaf.pem,
    intermediates: pems(intermediates),
    roots: pems(roots),
    at,
    purpose,
    name,
  };
  return go([question])[0]?.error === undefined;
}

/** Signs as `authority` says, with the name and key of another: what a careless CA would have signed. */
const careless = (authority: CertificateAuthority, certificate: Certificate): CertificateAuthority => ({
  ...authority,
  certificate,
});

/** A CA certificate for the intermediate's key with these extensions. */
const oddMiddle = (extensions: readonly Buffer[]): Certificate =>
  forged({
    key: estate.rootKey,
    spkiDer: estate.middleKey.spkiDer,
    issuer: estate.root.certificate.subject,
    subject: estate.middle.certificate.subject,
    extensions: [
      ...extensions,
      writeExtension(
        EXTENSION.subjectKeyIdentifier,
        false,
        octetString(Buffer.from(estate.middle.certificate.ski!, "hex")),
      ),
      estate.root.authorityKeyIdentifier,
    ],
    notAfter: NOW + 500 * DAY,
  });

const IS_CA = writeExtension(EXTENSION.basicConstraints, true, writeBasicConstraints(true));
const SIGNS = writeExtension(EXTENSION.keyUsage, true, writeKeyUsage(["keyCertSign", "cRLSign"]));

function tampered(certificate: Certificate): Certificate {
  const der = Buffer.from(certificate.der);
  der[der.length - 1]! ^= 1;
  return new Certificate(der);
}

const withSelf = (crls: readonly Crl[]): Scene => good({ crls });
const crlOf = (authority: CertificateAuthority, serials: readonly string[] = [], thisUpdate = NOW - DAY): Crl =>
  signCrl(authority, {
    number: 1,
    thisUpdate,
    nextUpdate: thisUpdate + 7 * DAY,
    entries: serials.map((serial) => ({ serial, revocationDate: NOW - DAY })),
  });

// `but` names a judge that says the opposite of us, and why: all the others must agree.
const SCENES: readonly {
  name: string;
  scene: () => Scene;
  codes: readonly string[];
  but?: { openssl?: string; go?: string };
}[] = [
  { name: "a good chain, for servers", scene: () => good({ name: "a.shop.lab.example" }), codes: [] },
  { name: "a good chain, for clients", scene: () => good({ purpose: "client" }), codes: [] },
  { name: "the last second", scene: () => good({ at: NOW + 30 * DAY - 1000 }), codes: [] },
  {
    name: "the second in which it ends",
    scene: () => good({ at: NOW + 30 * DAY }),
    codes: ["expired"],
    but: { go: "counts it as valid" },
  },
  { name: "the second after", scene: () => good({ at: NOW + 30 * DAY + 1000 }), codes: ["expired"] },
  { name: "before it begins", scene: () => good({ at: NOW - 2 * DAY }), codes: ["not-yet-valid"] },
  {
    name: "an intermediate that ends first",
    scene: () =>
      good({
        intermediates: [oddMiddle([IS_CA, SIGNS])],
        leaf: leafOf(estate.middle, estate.leafKey, { notAfter: NOW + 900 * DAY }),
        at: NOW + 600 * DAY,
      }),
    codes: ["expired"],
  },
  { name: "no intermediate", scene: () => good({ intermediates: [] }), codes: ["no-issuer"] },
  {
    name: "no root",
    scene: () => good({ roots: [rootOf(strangerKey, { subject: "CN=stranger" }).certificate] }),
    codes: ["no-issuer"],
  },
  {
    name: "a root of the same name with another key",
    scene: () => good({ roots: [rootOf(strangerKey).certificate] }),
    codes: ["signature"],
  },
  {
    name: "its root sent along but not trusted",
    scene: () =>
      good({
        roots: [rootOf(strangerKey, { subject: "CN=stranger" }).certificate],
        intermediates: [estate.middle.certificate, estate.root.certificate],
      }),
    codes: ["not-trusted"],
  },
  {
    name: "a flipped bit in the leaf's signature",
    scene: () => good({ leaf: tampered(estate.leaf) }),
    codes: ["signature"],
  },
  {
    name: "a flipped bit in the intermediate's",
    scene: () => good({ intermediates: [tampered(estate.middle.certificate)] }),
    codes: ["signature"],
  },
  {
    name: "a flipped bit beside the good one",
    scene: () => good({ intermediates: [tampered(estate.middle.certificate), estate.middle.certificate] }),
    codes: [],
    but: { openssl: "takes the first of two with one name and key, and stays with it" },
  },
  { name: "a name it does not have", scene: () => good({ name: "other.lab.example" }), codes: ["name"] },
  { name: "a wildcard asked for two labels", scene: () => good({ name: "a.b.shop.lab.example" }), codes: ["name"] },
  {
    name: "a client certificate for a server",
    scene: () => good({ leaf: leafOf(estate.middle, estate.leafKey, { usages: ["client"] }) }),
    codes: ["extended-key-usage"],
  },
  {
    name: "a server certificate for a client",
    scene: () => good({ leaf: leafOf(estate.middle, estate.leafKey, { usages: ["server"] }), purpose: "client" }),
    codes: ["extended-key-usage"],
  },
  {
    name: "no extended key usage at all",
    scene: () => good({ leaf: leafOf(estate.middle, estate.leafKey, { usages: [] }) }),
    codes: [],
  },
  {
    name: "an intermediate for clients only",
    scene: () => good({ intermediates: [middleOf(estate.root, estate.middleKey, { usages: ["client"] }).certificate] }),
    codes: ["extended-key-usage"],
  },
  {
    name: "an intermediate for clients only, asked for clients",
    scene: () =>
      good({
        intermediates: [middleOf(estate.root, estate.middleKey, { usages: ["client"] }).certificate],
        purpose: "client",
      }),
    codes: [],
  },
  {
    name: "an issuer that is no CA",
    scene: () =>
      good({
        intermediates: [
          oddMiddle([writeExtension(EXTENSION.basicConstraints, true, writeBasicConstraints(false)), SIGNS]),
        ],
      }),
    codes: ["not-a-ca"],
  },
  {
    name: "an issuer without basicConstraints",
    scene: () => good({ intermediates: [oddMiddle([SIGNS])] }),
    codes: ["not-a-ca"],
  },
  {
    name: "an issuer without keyCertSign",
    scene: () =>
      good({
        intermediates: [
          oddMiddle([IS_CA, writeExtension(EXTENSION.keyUsage, true, writeKeyUsage(["digitalSignature"]))]),
        ],
      }),
    codes: ["key-usage"],
  },
  {
    name: "a path that is too long",
    scene: () => good({ roots: [rootOf(estate.rootKey, { pathLength: 0 }).certificate] }),
    codes: ["path-length"],
  },
  {
    name: "a path that is just long enough",
    scene: () => good({ roots: [rootOf(estate.rootKey, { pathLength: 1 }).certificate] }),
    codes: [],
  },
  {
    name: "names outside the root's constraints",
    scene: () =>
      good({
        roots: [
          rootOf(estate.rootKey, { nameConstraints: { permitted: ["DNS:other.example"], excluded: [] } }).certificate,
        ],
      }),
    codes: ["name-constraints"],
  },
  {
    name: "names inside the root's constraints",
    scene: () =>
      good({
        roots: [
          rootOf(estate.rootKey, {
            nameConstraints: { permitted: ["DNS:lab.example"], excluded: ["IP:192.168.0.0/16"] },
          }).certificate,
        ],
      }),
    codes: [],
  },
  {
    name: "an excluded address",
    scene: () =>
      good({
        roots: [
          rootOf(estate.rootKey, { nameConstraints: { permitted: [], excluded: ["IP:10.0.0.0/8"] } }).certificate,
        ],
      }),
    codes: ["name-constraints"],
  },
  {
    name: "a wildcard over an excluded name",
    scene: () =>
      good({
        roots: [
          rootOf(estate.rootKey, { nameConstraints: { permitted: [], excluded: ["DNS:secret.shop.lab.example"] } })
            .certificate,
        ],
      }),
    codes: ["name-constraints"],
    but: { openssl: "compares the wildcard as text" },
  },
  {
    name: "a CN outside the constraints, without any DNS name",
    scene: () =>
      good({
        leaf: leafOf(estate.middle, estate.leafKey, { names: ["IP:10.0.0.1"] }),
        roots: [
          rootOf(estate.rootKey, { nameConstraints: { permitted: ["DNS:other.example"], excluded: [] } }).certificate,
        ],
      }),
    codes: ["name-constraints"],
    but: { go: "does not look at the CN" },
  },
  {
    name: "a subject outside permitted directory names",
    scene: () =>
      good({
        roots: [
          rootOf(estate.rootKey, { nameConstraints: { permitted: ["dirName:O=Other"], excluded: [] } }).certificate,
        ],
      }),
    codes: ["name-constraints"],
  },
  {
    name: "a critical extension nobody knows",
    scene: () => good({ intermediates: [oddMiddle([IS_CA, SIGNS, writeExtension("1.2.3.4", true, boolean(true))])] }),
    codes: ["critical-extension"],
  },
  {
    name: "the same extension, not critical",
    scene: () => good({ intermediates: [oddMiddle([IS_CA, SIGNS, writeExtension("1.2.3.4", false, boolean(true))])] }),
    codes: [],
  },
  {
    name: "a key usage that cannot sign a handshake",
    scene: () => good({ leaf: keyAgreementLeaf(), purpose: "client" }),
    codes: ["key-usage"],
    but: { go: "does not look at the leaf's key usage", openssl: "counts keyAgreement for clients" },
  },
  { name: "SHA-1 in the leaf", scene: () => good({ leaf: sha1Leaf() }), codes: ["weak"] },
  {
    name: "two names for one CA: the path over the trusted one is found",
    scene: () =>
      good({ intermediates: [estate.middle.certificate, middleOf(rootOf(strangerKey), estate.middleKey).certificate] }),
    codes: [],
  },
  { name: "all CRLs there", scene: () => withSelf([crlOf(estate.root), crlOf(estate.middle)]), codes: [] },
  {
    name: "revoked",
    scene: () => withSelf([crlOf(estate.root), crlOf(estate.middle, [estate.leaf.serial])]),
    codes: ["revoked"],
    but: { go: "has no CRL check" },
  },
  {
    name: "the intermediate revoked",
    scene: () => withSelf([crlOf(estate.root, [estate.middle.certificate.serial]), crlOf(estate.middle)]),
    codes: ["revoked"],
    but: { go: "has no CRL check" },
  },
  {
    name: "the root's CRL missing",
    scene: () => withSelf([crlOf(estate.middle)]),
    codes: ["crl"],
    but: { go: "has no CRL check" },
  },
  {
    name: "an expired CRL",
    scene: () => withSelf([crlOf(estate.root), crlOf(estate.middle, [], NOW - 9 * DAY)]),
    codes: ["crl"],
    but: { go: "has no CRL check" },
  },
  {
    name: "a CRL of tomorrow",
    scene: () => withSelf([crlOf(estate.root), crlOf(estate.middle, [], NOW + DAY)]),
    codes: ["crl"],
    but: { go: "has no CRL check" },
  },
  {
    name: "a CRL signed by another key",
    scene: () =>
      withSelf([
        crlOf(estate.root),
        crlOf(careless({ ...estate.middle, key: strangerKey }, estate.middle.certificate)),
      ]),
    codes: ["crl"],
    but: { go: "has no CRL check" },
  },
];

const leafExtensions = (usage: Buffer): readonly Buffer[] => [
  writeExtension(EXTENSION.basicConstraints, true, writeBasicConstraints(false)),
  usage,
  writeExtension(EXTENSION.extendedKeyUsage, false, writeExtendedKeyUsage(["serverAuth", "clientAuth"])),
  writeExtension(EXTENSION.subjectAltName, false, writeSubjectAltName(["DNS:shop.lab.example"])),
  estate.middle.authorityKeyIdentifier,
];
const oddLeaf = (usage: Buffer, hash: "sha1" | "sha256"): Certificate =>
  forged({
    key: estate.middleKey,
    spkiDer: estate.leafKey.spkiDer,
    issuer: estate.middle.certificate.subject,
    subject: "CN=shop.lab.example",
    extensions: leafExtensions(usage),
    hash,
  });
const keyAgreementLeaf = () =>
  oddLeaf(writeExtension(EXTENSION.keyUsage, true, writeKeyUsage(["keyAgreement"])), "sha256");
const sha1Leaf = () => oddLeaf(writeExtension(EXTENSION.keyUsage, true, writeKeyUsage(["digitalSignature"])), "sha1");

describe.each(SCENES)("$name", ({ scene, codes, but = {} }) => {
  it(codes.length === 0 ? "is accepted by all" : `is refused: ${codes.join(", ")}`, () => {
    const given = scene();
    const answer = ours(given);
    expect([...new Set(answer.problems.map((one) => one.code))]).toEqual(codes);
    const accepted = codes.length === 0;
    expect({ openssl: opensslSays(given), go: goSays(given) }).toEqual({
      openssl: but.openssl === undefined ? accepted : !accepted,
      go: but.go === undefined ? accepted : !accepted,
    });
    if (accepted) expect(answer.path?.at(-1)?.der.equals(given.roots[0]!.der)).toBe(true);
  });
});

describe("what only we answer", () => {
  it("several instants: now, after skew, at the horizon", () => {
    const at = [NOW, NOW + 600_000, NOW + 40 * DAY];
    const { problems } = checkChain({ ...good(), at, purpose: "server" });
    expect(problems).toMatchObject([{ code: "expired", about: expect.stringContaining("CN=shop.lab.example") }]);
    expect(problems[0]?.message).toContain("2030-07-11T12:00:00Z");
    expect(checkChain({ ...good(), at: at.slice(0, 2), purpose: "server" }).problems).toEqual([]);
  });

  it("no instant, or one that is none, is no proof", () => {
    for (const at of [[], [Number.NaN], [NOW, Number.POSITIVE_INFINITY]])
      expect(checkChain({ ...good(), at, purpose: "server" }).problems.map((one) => one.code)).toContain("no-instant");
  });

  it("every missing name, each by itself", () => {
    const names = ["DNS:shop.lab.example", "DNS:a.example", "IP:10.0.0.1", "IP:10.0.0.2"];
    const { problems } = checkChain({ ...good(), at: [NOW], purpose: "server", names });
    expect(problems.map((one) => one.message.split(";")[0])).toEqual([
      "it does not cover DNS:a.example",
      "it does not cover IP:10.0.0.2",
    ]);
  });

  it("a pinned certificate is its own chain", () => {
    expect(
      checkChain({ leaf: estate.leaf, intermediates: [], roots: [estate.leaf], at: [NOW], purpose: "server" }),
    ).toEqual({ path: [estate.leaf], problems: [] });
  });

  it("a leaf that cannot be read is a problem, not an exception", () => {
    const odd = forged({
      key: estate.middleKey,
      spkiDer: estate.leafKey.spkiDer,
      issuer: estate.middle.certificate.subject,
      subject: "CN=x",
      extensions: [writeExtension(EXTENSION.keyUsage, true, integer(1))],
    });
    expect(ours(good({ leaf: odd })).problems.map((one) => one.code)).toContain("malformed");
  });

  it("does not compare without end: many extensions, many names against many subtrees", () => {
    const many = Array.from({ length: 257 }, (_, i) => writeExtension(`1.2.3.${i}`, false, boolean(true)));
    expect(() => oddMiddle(many.slice(0, 254))).not.toThrow();
    expect(() => oddMiddle(many)).toThrow(/more than 256 extensions/);
    const names = Array.from({ length: 600 }, (_, i) => `DNS:h${i}.lab.example`);
    const permitted = Array.from({ length: 600 }, (_, i) => `DNS:h${i}.lab.example`);
    const constrained = (list: readonly string[]) =>
      ours(
        good({
          leaf: leafOf(estate.middle, estate.leafKey, { names }),
          roots: [rootOf(estate.rootKey, { nameConstraints: { permitted: list, excluded: [] } }).certificate],
        }),
      );
    expect(constrained(permitted).problems[0]?.message).toMatch(/too many to check/);
    expect(constrained(["DNS:lab.example"]).problems).toEqual([]);
  });

  it("ends on a maze of cross-signed CAs", async () => {
    const keys = await Promise.all(Array.from({ length: 12 }, () => generateKey("P-256")));
    const authorities = keys.map((key) => rootOf(key, { subject: "CN=maze" }));
    const maze = authorities.flatMap((authority) =>
      keys.map((key) => middleOf(authority, key, { subject: "CN=maze", pathLength: 9 }).certificate),
    );
    const leaf = leafOf(authorities[0]!, estate.leafKey);
    const answer = checkChain({
      leaf,
      intermediates: maze,
      roots: [estate.root.certificate],
      at: [NOW],
      purpose: "server",
    });
    expect(answer.path).toBeUndefined();
    expect(answer.problems.length).toBeGreaterThan(0);
  });
});
