import { hash } from "node:crypto";

/** Merkle trees as RFC 9162 section 2.1 defines them. Hashes are Buffers of 32 bytes; sizes stay below 2^53. */
const LEAF = Buffer.from([0]);
const NODE = Buffer.from([1]);

function sha256(...parts: readonly Uint8Array[]): Buffer {
  return hash("sha256", Buffer.concat(parts), "buffer");
}

export function leafHash(data: Uint8Array): Buffer {
  return sha256(LEAF, data);
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  return sha256(NODE, left, right);
}

/** Largest power of two smaller than `size`, for size > 1. */
function split(size: number): number {
  let half = 1;
  while (half * 2 < size) half *= 2;
  return half;
}

/** Root of the tree over the leaf hashes [from, to). An empty tree has the hash of nothing. */
export function rootOf(leaves: readonly Buffer[], from = 0, to = leaves.length): Buffer {
  if (from === to) return sha256();
  if (to - from === 1) return leaves[from]!;
  const middle = from + split(to - from);
  return nodeHash(rootOf(leaves, from, middle), rootOf(leaves, middle, to));
}

/** RFC 9162 section 2.1.3.1: proves leaf `index` of the whole tree. The deepest sibling comes first. */
export function inclusionProof(leaves: readonly Buffer[], index: number, from = 0, to = leaves.length): Buffer[] {
  if (to - from <= 1) return [];
  const middle = from + split(to - from);
  return index < middle
    ? [...inclusionProof(leaves, index, from, middle), rootOf(leaves, middle, to)]
    : [...inclusionProof(leaves, index, middle, to), rootOf(leaves, from, middle)];
}

/** RFC 9162 section 2.1.3.2. Total: anything that does not fit is `false`. */
export function verifyInclusion(
  leaf: Uint8Array,
  index: number,
  size: number,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) return false;
  let node = index;
  let last = size - 1;
  let seen: Uint8Array = leaf;
  for (const sibling of proof) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      seen = nodeHash(sibling, seen);
      while (node % 2 === 0 && node !== 0) {
        node /= 2;
        last = Math.floor(last / 2);
      }
    } else {
      seen = nodeHash(seen, sibling);
    }
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && Buffer.compare(seen, root) === 0;
}

/** RFC 9162 section 2.1.4.1: proves that the tree over the first `size` leaves is a prefix of the whole tree. */
export function consistencyProof(leaves: readonly Buffer[], size: number): Buffer[] {
  return size <= 0 || size >= leaves.length ? [] : subProof(leaves, size, 0, leaves.length, true);
}

function subProof(leaves: readonly Buffer[], size: number, from: number, to: number, whole: boolean): Buffer[] {
  if (size === to - from) return whole ? [] : [rootOf(leaves, from, to)];
  const half = split(to - from);
  const middle = from + half;
  return size <= half
    ? [...subProof(leaves, size, from, middle, whole), rootOf(leaves, middle, to)]
    : [...subProof(leaves, size - half, middle, to, false), rootOf(leaves, from, middle)];
}

/** RFC 9162 section 2.1.4.2. Total. An empty first tree is a prefix of every tree, with an empty proof. */
export function verifyConsistency(
  first: { readonly size: number; readonly root: Uint8Array },
  second: { readonly size: number; readonly root: Uint8Array },
  proof: readonly Uint8Array[],
): boolean {
  if (!Number.isSafeInteger(first.size) || !Number.isSafeInteger(second.size)) return false;
  if (first.size < 0 || first.size > second.size) return false;
  if (first.size === second.size) return proof.length === 0 && Buffer.compare(first.root, second.root) === 0;
  if (first.size === 0) return proof.length === 0 && Buffer.compare(first.root, rootOf([])) === 0;
  let node = first.size - 1;
  let last = second.size - 1;
  while (node % 2 === 1) {
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  }
  // A first tree that is complete is itself a node of the second, and the proof leaves it out.
  const path = node === 0 ? [first.root, ...proof] : proof;
  const [start, ...rest] = path;
  if (start === undefined) return false;
  let older: Uint8Array = start;
  let newer: Uint8Array = start;
  for (const sibling of rest) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      older = nodeHash(sibling, older);
      newer = nodeHash(sibling, newer);
      while (node % 2 === 0 && node !== 0) {
        node /= 2;
        last = Math.floor(last / 2);
      }
    } else {
      newer = nodeHash(newer, sibling);
    }
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && Buffer.compare(older, first.root) === 0 && Buffer.compare(newer, second.root) === 0;
}
