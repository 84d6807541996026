import { createHash } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { comparableName } from "./comparable-name.ts";
import { whomItNames } from "./identity.ts";
import { type Leaf, makeLeaf, makeRoot } from "./testing.ts";

let mine: Leaf;
let another: Leaf;
beforeAll(async () => {
  const root = await makeRoot();
  mine = await makeLeaf(root, "client", { usage: "client" });
  another = await makeLeaf(root, "another", { usage: "client" });
});
const colons = (hex: string) => hex.match(/../g)!.join(":");
const even = (hex: string) => (hex.length % 2 === 0 ? hex : `0${hex}`);

const ways: readonly (readonly [string, (leaf: Leaf) => string])[] = [
  ["the serial", (leaf) => leaf.serial],
  ["the serial in capitals with leading zeros", (leaf) => `00${leaf.serial.toUpperCase()}`],
  ["the serial with colons", (leaf) => colons(even(leaf.serial))],
  ["the serial with 0x", (leaf) => `0x${leaf.serial}`],
  ["the serial in decimal", (leaf) => BigInt(`0x${leaf.serial}`).toString()],
  ["the SHA-256 fingerprint", (leaf) => leaf.fingerprint.toUpperCase()],
  ["the SHA-256 fingerprint with colons", (leaf) => colons(leaf.fingerprint)],
  ["the SHA-1 fingerprint", (leaf) => createHash("sha1").update(leaf.parsed.der).digest("hex")],
  ["Envoy's certificate header", (leaf) => `By=spiffe://x/y;Hash=${leaf.fingerprint};Subject="${leaf.parsed.subject}"`],
  ["the certificate, percent-encoded", (leaf) => encodeURIComponent(leaf.certificate)],
];

describe("a header names a certificate by", () => {
  it.each(ways)("%s", (_, write) => {
    expect(whomItNames(write(mine), mine.parsed)).toBe("ours");
    expect(whomItNames(write(another), mine.parsed)).toBe("other");
  });
});

describe("a header names", () => {
  it.each([
    ["as it is", (subject: string) => subject],
    ["with spaces", (subject: string) => subject.replaceAll(",", ", ").replaceAll("=", " = ")],
    ["in OpenSSL's slash form", (subject: string) => `/${subject.split(",").reverse().join("/")}`],
  ])("a subject, %s, which is not enough to tell generations apart", (_, write) => {
    expect(whomItNames(write(mine.parsed.subject), mine.parsed)).toBe("subject");
    expect(whomItNames(`Hash=${another.fingerprint};Subject="${mine.parsed.subject}"`, mine.parsed)).toBe("other");
    expect(whomItNames(`Hash=${mine.fingerprint};Subject="${mine.parsed.subject}"`, mine.parsed)).toBe("ours");
  });
  it("nobody when it is empty", () => {
    expect(whomItNames("", mine.parsed)).toBe("none");
    expect(whomItNames(" - ", mine.parsed)).toBe("none");
  });
  it("somebody else when it holds only a part of ours", () => {
    expect(whomItNames(mine.serial.slice(0, -1), mine.parsed)).toBe("other");
    expect(whomItNames(`${mine.serial}0`, mine.parsed)).toBe("other");
    expect(whomItNames("CN=client", mine.parsed)).toBe("other");
  });
});

describe("names compare", () => {
  it.each([
    ["/O=Shop/CN=a", "CN=a,O=Shop"],
    ["CN = a , O = Shop", "CN=a,O=Shop"],
    ["/O=a, b/CN=x/y", "CN=x/y,O=a\\, b"],
  ])("%s like %s", (one, two) => expect(comparableName(one)).toBe(comparableName(two)));
  it("in their order, and whole", () => {
    expect(comparableName("O=Shop,CN=a")).not.toBe(comparableName("CN=a,O=Shop"));
    expect(comparableName("CN=a,O=Shop2")).not.toBe(comparableName("CN=a,O=Shop"));
    expect(comparableName("not a name")).toBe("not a name");
  });
});
