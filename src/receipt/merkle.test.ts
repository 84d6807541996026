import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  consistencyProof,
  inclusionProof,
  leafHash,
  nodeHash,
  rootOf,
  verifyConsistency,
  verifyInclusion,
} from "./merkle.ts";

/** A second way to the root, level by level: pairs are joined, a last odd one moves up unchanged. */
function rootByLevels(data: readonly string[]): string {
  if (data.length === 0) return createHash("sha256").digest("hex");
  let level = data.map((text) => createHash("sha256").update(`\0${text}`).digest("hex"));
  while (level.length > 1) {
    const next: string[] = [];
    for (let at = 0; at < level.length; at += 2) {
      const [left, right] = [level[at]!, level[at + 1]];
      next.push(right === undefined ? left : createHash("sha256").update(`01${left}${right}`, "hex").digest("hex"));
    }
    level = next;
  }
  return level[0]!;
}

const names = (size: number) => Array.from({ length: size }, (_, n) => `receipt ${n}`);
const tree = (size: number) => names(size).map((name) => leafHash(Buffer.from(name)));
const SIZES = 40;

describe("the Merkle tree of RFC 9162", () => {
  it("has the root that pairing level by level gives", () => {
    for (let size = 0; size <= 300; size++) expect(rootOf(tree(size)).toString("hex")).toBe(rootByLevels(names(size)));
  });

  it("has the roots of the well-known test vectors", () => {
    // The reference tree of Certificate Transparency implementations: these eight inputs.
    const inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const leaves = inputs.map((hex) => leafHash(Buffer.from(hex, "hex")));
    expect(rootOf([]).toString("hex")).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect(rootOf(leaves, 0, 1).toString("hex")).toBe(
      "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    );
    expect(rootOf(leaves).toString("hex")).toBe("5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
  });

  it("proves every leaf of every size, and no other leaf, index, size or root", () => {
    for (let size = 1; size <= SIZES; size++) {
      const leaves = tree(size);
      const root = rootOf(leaves);
      for (let index = 0; index < size; index++) {
        const proof = inclusionProof(leaves, index);
        expect(proof.length).toBeLessThanOrEqual(Math.ceil(Math.log2(size)));
        expect(verifyInclusion(leaves[index]!, index, size, proof, root)).toBe(true);
        for (let other = -1; other <= size; other++) {
          if (other !== index) expect(verifyInclusion(leaves[index]!, other, size, proof, root)).toBe(false);
        }
        expect(verifyInclusion(leafHash(Buffer.from("x")), index, size, proof, root)).toBe(false);
        expect(verifyInclusion(leaves[index]!, index, size, [...proof, root], root)).toBe(false);
        expect(verifyInclusion(leaves[index]!, index, size, proof, leafHash(root))).toBe(false);
        for (let at = 0; at < proof.length; at++) {
          expect(verifyInclusion(leaves[index]!, index, size, proof.toSpliced(at, 1), root)).toBe(false);
        }
      }
    }
  });

  it("proves every beginning of every size, and no other", () => {
    for (let size = 0; size <= SIZES; size++) {
      const leaves = tree(size);
      const second = { size, root: rootOf(leaves) };
      for (let before = 0; before <= size; before++) {
        const first = { size: before, root: rootOf(leaves, 0, before) };
        const proof = consistencyProof(leaves, before);
        expect(verifyConsistency(first, second, proof), `${before} of ${size}`).toBe(true);
        if (before === 0) continue;
        expect(verifyConsistency({ ...first, root: leafHash(first.root) }, second, proof)).toBe(false);
        expect(verifyConsistency(first, { ...second, root: leafHash(second.root) }, proof)).toBe(false);
        expect(verifyConsistency(first, second, [...proof, first.root])).toBe(false);
        for (let at = 0; at < proof.length; at++) {
          expect(verifyConsistency(first, second, proof.toSpliced(at, 1))).toBe(false);
        }
        for (const wrong of [before - 1, before + 1]) {
          if (wrong === 0 || wrong > size) continue;
          expect(verifyConsistency({ ...first, size: wrong }, second, proof)).toBe(false);
        }
      }
    }
  });

  it("is total over any proof", () => {
    const hashes = fc.array(fc.uint8Array({ minLength: 32, maxLength: 32 }), { maxLength: 8 });
    const root = rootOf(tree(7));
    fc.assert(
      fc.property(fc.integer(), fc.integer(), hashes, (index, size, proof) => {
        expect(verifyInclusion(root, index, size, proof, root)).toBe(index === 0 && size === 1 && proof.length === 0);
        const [first, second] = [
          { size: index, root },
          { size, root },
        ];
        if (index !== size) expect(verifyConsistency(first, second, proof)).toBe(false);
      }),
    );
    expect(verifyInclusion(root, Number.NaN, 1, [], root)).toBe(false);
    expect(nodeHash(root, root)).not.toEqual(leafHash(Buffer.concat([root, root])));
  });
});
