import { describe, expect, it } from "vitest";
import { GyreError } from "../errors.ts";
import { berToDer } from "./ber.ts";
import {
  DerReader,
  explicit,
  integer,
  MAX_DEPTH,
  namedBits,
  oid,
  sequence,
  setOf,
  TAG,
  time,
  tlv,
  utf8String,
} from "./der.ts";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const reader = (text: string): DerReader => new DerReader(hex(text), "test");

function refusal(act: () => unknown): GyreError {
  try {
    act();
  } catch (error) {
    if (error instanceof GyreError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("writing", () => {
  it.each([
    [0, "020100"],
    [127, "02017f"],
    [128, "02020080"],
    [256, "02020100"],
    [2n ** 64n, "0209010000000000000000"],
  ])("integer %s", (value, expected) => {
    expect(integer(value).toString("hex")).toBe(expected);
  });

  it("writes bytes as an unsigned integer, the shortest way", () => {
    expect(integer(hex("0000ff")).toString("hex")).toBe("020200ff");
    expect(integer(hex("00")).toString("hex")).toBe("020100");
    expect(integer(new Uint8Array()).toString("hex")).toBe("020100");
  });

  it.each([
    ["1.2.840.113549", "06062a864886f70d"],
    ["2.5.29.17", "0603551d11"],
    ["2.999.3", "0603883703"],
    ["0.9.2342.19200300.100.1.25", "060a0992268993f22c640119"],
  ])("object identifier %s", (text, expected) => {
    expect(oid(text).toString("hex")).toBe(expected);
    expect(reader(expected).oid()).toBe(text);
  });

  it.each([127, 128, 255, 256, 65_535, 65_536])("length %i", (length) => {
    const der = tlv(TAG.octetString, Buffer.alloc(length));
    const back = new DerReader(der, "test");
    expect(back.content(TAG.octetString).length).toBe(length);
    back.finish();
  });

  it("leaves trailing zero bits out of named bits and sorts a SET OF", () => {
    expect(namedBits([5, 6]).toString("hex")).toBe("03020106");
    expect(namedBits([]).toString("hex")).toBe("030100");
    expect(setOf(integer(5), integer(1)).toString("hex")).toBe("3106020101020105");
  });

  it.each([
    [Date.UTC(2049, 11, 31, 23, 59, 59), "170d3439313233313233353935395a"],
    [Date.UTC(2050, 0, 1), "180f32303530303130313030303030305a"],
    [Date.UTC(1950, 0, 1), "170d3530303130313030303030305a"],
    [Date.UTC(1949, 11, 31), "180f31393439313233313030303030305a"],
    [Date.UTC(9999, 11, 31, 23, 59, 59), "180f39393939313233313233353935395a"],
  ])("time %i changes its form in 2050 (RFC 5280 4.1.2.5)", (ms, expected) => {
    expect(time(ms).toString("hex")).toBe(expected);
    expect(reader(expected).time()).toBe(ms);
    expect(reader(time(ms + 999).toString("hex")).time()).toBe(ms);
  });
});

describe("reading", () => {
  it.each([
    ["an element that is cut off", "0402aa", /longer than what holds it/],
    ["a length that is cut off", "0482", /past the end/],
    ["an indefinite length", "30800000", /BER/],
    ["a length written too long", "048101aa", /shortest/],
    ["a five-octet length", "04850000000001aa", /past the end/],
    ["a high tag number", "1f8101aa", /tag numbers/],
    ["nothing", "", /ends where/],
  ])("refuses %s", (_, text, message) => {
    const error = refusal(() => reader(text).read());
    expect(error.code).toBe("input");
    expect(error.message).toMatch(message);
  });

  it.each([
    ["an empty INTEGER", "0200"],
    ["a padded INTEGER", "02020001"],
    ["a padded negative INTEGER", "0202ffff"],
  ])("refuses %s", (_, text) => {
    expect(refusal(() => reader(text).integerBytes()).code).toBe("input");
    expect(reader("02020080").integerBytes().toString("hex")).toBe("0080");
  });

  it.each(["0603805501", "0600", "060188", `0641${"81".repeat(64)}01`])("refuses the object identifier %s", (text) => {
    expect(refusal(() => reader(text).oid()).code).toBe("input");
  });

  it.each([
    "170d3233303233303030303030305a", // 30 February
    "170d3233313330313030303030305a", // month 13
    "170d3233303130313234303030305a", // hour 24
    "170b323330313031303030305a", // no seconds
    "171132333031303130303030303030303030", // no Z
    "170d3233303130313030303078305a",
    "18153230333030363031303030303030302e3132335a5a", // fraction
  ])("refuses the time %s", (text) => {
    expect(refusal(() => reader(text).time()).code).toBe("input");
  });

  it("knows leap years", () => {
    expect(reader("170d3234303232393030303030305a").time()).toBe(Date.UTC(2024, 1, 29));
    expect(refusal(() => reader("180f32313030303232393030303030305a").time()).code).toBe("input");
    expect(reader("180f30303230303132383030303030305a").time()).toBe(Date.parse("0020-01-28T00:00:00Z"));
  });

  it("refuses to go too deep, and reads up to there", () => {
    const nest = (depth: number) => {
      let der: Buffer = integer(1);
      for (let i = 0; i < depth; i++) der = sequence(der);
      return der;
    };
    const walk = (der: Buffer) => {
      let at = new DerReader(der, "test");
      while (at.peek() === TAG.sequence) at = at.enter(TAG.sequence);
      return at.smallInteger();
    };
    expect(walk(nest(MAX_DEPTH))).toBe(1);
    expect(refusal(() => walk(nest(MAX_DEPTH + 1))).message).toMatch(/too deeply/);
  });

  it("does not tell the byte it found: it may belong to a private key", () => {
    expect(refusal(() => reader("04020000").read(TAG.sequence)).message).not.toMatch(/0x4\b|0x04/);
  });

  it("refuses trailing bytes and wrong booleans and bit strings", () => {
    expect(refusal(() => reader("0500ff").finish()).message).toMatch(/3 bytes too many/);
    expect(refusal(() => reader("010101").boolean()).code).toBe("input");
    expect(reader("0101ff").boolean()).toBe(true);
    expect(refusal(() => reader("03020180").bitString()).code).toBe("input");
    expect(refusal(() => reader("030108").namedBits()).code).toBe("input");
    expect(refusal(() => reader("03020906").namedBits()).code).toBe("input");
    expect(reader("03020106").namedBits()).toEqual([5, 6]);
  });
});

describe("BER", () => {
  it("turns indefinite lengths and strings in pieces into DER", () => {
    const ber = hex("3080 2480 0402aabb 0401cc 0000 0281 01 05 0000");
    expect(berToDer(ber, "test").toString("hex")).toBe("30080403aabbcc020105");
  });
  it("leaves DER as it is", () => {
    const der = sequence(explicit(0, integer(1)), utf8String("é"), setOf());
    expect(berToDer(der, "test").equals(der)).toBe(true);
  });
  it("refuses to go too deep", () => {
    let der: Buffer = integer(1);
    for (let i = 0; i < MAX_DEPTH; i++) der = sequence(der);
    expect(berToDer(der, "test").equals(der)).toBe(true);
    expect(refusal(() => berToDer(sequence(der), "test")).message).toMatch(/too deeply/);
  });
  it.each(["3080", "30800000ff", "0480aa0000", "2403020101", "30".repeat(10), "3080".repeat(40)])(
    "refuses %s",
    (text) => {
      expect(refusal(() => berToDer(hex(text), "test")).code).toBe("input");
    },
  );
});
