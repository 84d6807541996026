import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  hash,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import { GyreError } from "../errors.ts";
import { Secret } from "../pki/secret.ts";
import { broken, parseBase64, parseStrict } from "./json.ts";
import { list, object, string } from "./shape.ts";
import { type Sha256, type Signer, type Statement, statementShape } from "./statement.ts";

/** DSSE envelope (secure-systems-lab/dsse, envelope.md), as JSON in one spelling. */
export interface Envelope {
  readonly payloadType: string;
  /** Base64. */
  readonly payload: string;
  readonly signatures: readonly { readonly keyid: string; readonly sig: string }[];
}
export const PAYLOAD_TYPE = "application/vnd.in-toto+json";

/** A key that signs receipts. The private half stays inside. */
export interface SigningKey extends Signer {
  sign(message: Uint8Array): Buffer;
}

/** What `openSigningKey` needs of a secret store. */
export interface KeyStore {
  get(name: string): Promise<Secret | undefined>;
  put(name: string, secret: Secret): Promise<unknown>;
}

/** A new Ed25519 key (RFC 8032) as PKCS#8 DER. */
export function makeSigningKey(): Secret {
  const der = generateKeyPairSync("ed25519").privateKey.export({ format: "der", type: "pkcs8" });
  const secret = Secret.of(der);
  der.fill(0);
  return secret;
}

/** Takes a PKCS#8 DER Ed25519 key into use. @throws GyreError `input` when it is anything else */
export function signingKey(pkcs8: Secret): SigningKey {
  const key = pkcs8.use((der) => {
    try {
      return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    } catch {
      // No cause: what a parser says of a private key stays here.
      return undefined;
    }
  });
  if (key?.asymmetricKeyType !== "ed25519") {
    const message = "receipt signing key: not an Ed25519 key in PKCS#8 DER; nothing was signed";
    throw new GyreError({
      code: "input",
      message,
      next: "put the right key back, or remove it to start with a new one",
    });
  }
  const spki = createPublicKey(key).export({ format: "der", type: "spki" });
  return {
    keyId: keyIdOf(spki),
    publicKey: spki.toString("base64"),
    sign: (message) => sign(null, message, key),
  };
}

/** The signing key kept under `name`, made on first use. Two first users end up with one key. */
export async function openSigningKey(store: KeyStore, name: string): Promise<SigningKey> {
  const kept = await store.get(name);
  if (kept !== undefined) return signingKey(kept);
  try {
    await store.put(name, makeSigningKey());
  } catch (error) {
    // Somebody was faster: theirs is the key.
    if (!(error instanceof GyreError) || error.code !== "conflict") throw error;
  }
  const now = await store.get(name);
  if (now !== undefined) return signingKey(now);
  throw new GyreError({ code: "damaged", message: `receipt signing key ${name}: gone right after it was stored` });
}

export function signerOf(key: SigningKey): Signer {
  return { keyId: key.keyId, publicKey: key.publicKey };
}

export function keyIdOf(spki: Uint8Array): Sha256 {
  return `sha256:${hash("sha256", spki, "hex")}`;
}

/** The public key a signer names. @throws GyreError `damaged` when it is no Ed25519 key or not the one of its id */
export function publicKeyOf(signer: Signer): KeyObject {
  const spki = parseBase64(signer.publicKey, "signer's public key");
  let key: KeyObject | undefined;
  try {
    key = createPublicKey({ key: spki, format: "der", type: "spki" });
  } catch {
    key = undefined;
  }
  if (key?.asymmetricKeyType !== "ed25519" || !spki.equals(key.export({ format: "der", type: "spki" }))) {
    throw broken("signer's public key: not an Ed25519 key in DER");
  }
  if (keyIdOf(spki) !== signer.keyId) throw broken(`signer ${signer.keyId}: the public key beside it is another one`);
  return key;
}

/** DSSE pre-authentication encoding: what is signed, so that a type can never be mistaken for a payload. */
export function pae(type: string, payload: Uint8Array): Buffer {
  const name = Buffer.from(type, "utf8");
  return Buffer.concat([Buffer.from(`DSSEv1 ${name.length} `), name, Buffer.from(` ${payload.length} `), payload]);
}

/**
 * Signs with every key. The statement must name exactly these keys as its signers: only then can a reader with a pin
 * and no network check it.
 * @throws GyreError `bug` when it does not, `damaged` when the statement has not the shape of one
 */
export function signStatement(statement: Statement, keys: readonly SigningKey[]): Envelope {
  const { signers } = statement.predicate;
  if (keys.length === 0 || signers.map((one) => one.keyId).join() !== keys.map((one) => one.keyId).join()) {
    throw new GyreError({
      code: "bug",
      message: "receipt: its signers are not the keys that sign it; nothing was signed",
    });
  }
  const payload = Buffer.from(JSON.stringify(statement), "utf8");
  // What we would refuse to read we must not sign.
  statementShape(parseStrict(payload, "statement"), "statement");
  const message = pae(PAYLOAD_TYPE, payload);
  return {
    payloadType: PAYLOAD_TYPE,
    payload: payload.toString("base64"),
    signatures: keys.map((key) => ({ keyid: key.keyId, sig: key.sign(message).toString("base64") })),
  };
}

/** The one text of an envelope: compact JSON and a newline. */
export function encodeEnvelope({ payloadType, payload, signatures }: Envelope): string {
  return `${JSON.stringify({ payloadType, payload, signatures: signatures.map(({ keyid, sig }) => ({ keyid, sig })) })}\n`;
}

const envelopeShape = object({
  payloadType: string,
  payload: string,
  signatures: list(object({ keyid: string, sig: string })),
});

/** Reads an envelope in its one spelling. @throws GyreError `damaged` */
export function parseEnvelope(bytes: Uint8Array): Envelope {
  const ending = bytes.at(-1) === 10 ? 1 : 0;
  const value = parseStrict(bytes.subarray(0, bytes.length - ending), "receipt");
  envelopeShape(value, "receipt");
  const envelope = value as Envelope;
  if (!Buffer.from(encodeEnvelope(envelope)).equals(bytes))
    throw broken("receipt: not in the spelling it is written in");
  return envelope;
}

/** The statement inside, from the exact bytes that are signed. @throws GyreError `damaged` */
export function parseStatement(envelope: Envelope): Statement {
  if (envelope.payloadType !== PAYLOAD_TYPE) throw broken("receipt: the payload is no in-toto statement");
  const value = parseStrict(parseBase64(envelope.payload, "receipt payload"), "receipt payload");
  statementShape(value, "statement");
  return value as Statement;
}

/** What is wrong with the signatures, in sentences: none missing, none left over, each by a key the statement names. */
export function signatureProblems(envelope: Envelope, statement: Statement): readonly string[] {
  const problems: string[] = [];
  const message = pae(envelope.payloadType, Buffer.from(envelope.payload, "base64"));
  const { signers } = statement.predicate;
  if (signers.length === 0) problems.push("the statement names no signer");
  if (signers.length !== envelope.signatures.length) {
    problems.push(`${signers.length} signers are named, ${envelope.signatures.length} signatures are there`);
  }
  for (const [index, signer] of signers.entries()) {
    const signature = envelope.signatures[index];
    if (signature === undefined) continue;
    try {
      const valid = verify(null, message, publicKeyOf(signer), parseBase64(signature.sig, "signature"));
      if (signature.keyid !== signer.keyId) problems.push(`signature ${index + 1} is not by ${signer.keyId}`);
      else if (!valid) problems.push(`the signature by ${signer.keyId} does not fit: the content was changed`);
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
  }
  return problems;
}
