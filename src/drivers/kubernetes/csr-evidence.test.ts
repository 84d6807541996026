import { beforeAll, expect, test } from "vitest";
import { signSelfSigned } from "../../pki/issue.ts";
import { generateKey } from "../../pki/keys.ts";
import { judgeRequests, type Request } from "./csr-evidence.ts";
import { csrSettings } from "./csr-settings.ts";

const now = Date.UTC(2026, 0, 2);
const minute = 60_000;
const hour = 60 * minute;
const client = "kubernetes.io/kube-apiserver-client";
const settings = (more: object = {}) => csrSettings.parse({ cluster: "prod", approval: "somebody", ...more });
const ago = (length: number) => new Date(now - length).toISOString();

let certificateFor: (lives: number) => string;
beforeAll(async () => {
  const key = await generateKey("P-256");
  certificateFor = (lives) => {
    const validity = { notBefore: now - 5 * minute, notAfter: now - 5 * minute + lives };
    const { pem } = signSelfSigned(key, { subject: "CN=x", names: [], usages: ["client"], ...validity });
    return Buffer.from(pem).toString("base64");
  };
});

interface Was {
  readonly approved?: number;
  readonly failed?: true;
  readonly lives?: number;
  readonly asked?: number;
  readonly signer?: string;
}
const request = (age: number, { approved, failed, lives, asked, signer = client }: Was = {}): Request => ({
  metadata: { name: `csr-${age / minute}`, creationTimestamp: ago(age) },
  spec: { signerName: signer, ...(asked === undefined ? {} : { expirationSeconds: asked / 1000 }) },
  status: {
    conditions: [
      ...(approved === undefined
        ? []
        : [{ type: "Approved", reason: "KubectlApprove", lastUpdateTime: ago(approved) }]),
      ...(failed === true ? [{ type: "Failed", reason: "SignerValidationFailure" }] : []),
    ],
    ...(lives === undefined ? {} : { certificate: certificateFor(lives) }),
  },
});
const say = (all: readonly Request[], more: object = {}, lifetime = hour) =>
  judgeRequests(all, settings(more), lifetime, now).map(({ level, what }) => `${level} ${what}`);

test("nobody was seen approving: it is said who approves nothing of this", () => {
  expect(say([])).toEqual([
    expect.stringMatching(/^warning approval: somebody, and nothing shows.*kubelet-csr-approver/),
  ]);
  expect(say([], { approval: "gyre" })).toEqual([]);
});

test("old requests that wait are the evidence; young ones, and those of other signers, are none", () => {
  expect(say([request(30 * minute), request(90 * minute)])).toEqual([
    expect.stringMatching(/^warning nobody approves: 2 for .*csr-90 since 90 min; kubelet-csr-approver/),
  ]);
  expect(say([request(minute)])).toEqual([expect.stringMatching(/nothing shows/)]);
  expect(say([request(90 * minute, { signer: "kubernetes.io/kubelet-serving" })])).toEqual([
    expect.stringMatching(/nothing shows/),
  ]);
});

test("somebody who approves is seen", () => {
  expect(say([request(20 * minute, { approved: 19 * minute, lives: hour, asked: hour })])).toEqual([
    expect.stringMatching(/^ok somebody approves .*KubectlApprove/),
    expect.stringMatching(/^ok signed/),
  ]);
});

test("for kubelets the controller manager approves, so nothing seen is no warning", () => {
  expect(say([], { signerName: "kubernetes.io/kubelet-serving" })).toEqual([]);
});

test("approved and never signed: no controller signs; one that failed was answered, one that is a moment old may be", () => {
  const [signer, roots] = ["example.com/x", "r.pem"];
  const more = { signerName: signer, approval: "gyre", roots };
  expect(say([request(hour, { approved: 50 * minute, signer })], more)).toEqual([
    expect.stringMatching(
      /^problem csr-60 is approved since 50 min, and example.com\/x issued nothing: no controller signs/,
    ),
  ]);
  const signed = request(2 * hour, { approved: hour, lives: hour, asked: hour, signer });
  expect(say([request(hour, { approved: 50 * minute, signer }), signed], more)).toEqual([
    expect.stringMatching(/^warning csr-60/),
  ]);
  for (const was of [{ approved: 30_000 }, { approved: hour, failed: true }] as const)
    expect(say([request(hour, { ...was, signer })], more)).toEqual([
      expect.stringMatching(/^note whether a controller signs/),
    ]);
  expect(say([signed], more)).toEqual([expect.stringMatching(/^ok signed/)]);
});

test("the signing duration shows in what others were given", () => {
  const gyre = { approval: "gyre" };
  const cut = request(10 * minute, { approved: 9 * minute, lives: 24 * hour, asked: 48 * hour });
  const plain = request(10 * minute, { approved: 9 * minute, lives: 24 * hour });
  const asked = request(10 * minute, { approved: 9 * minute, lives: 24 * hour, asked: 24 * hour });
  for (const one of [cut, plain])
    expect(say([one], gyre, 25 * hour)).toContainEqual(
      expect.stringMatching(/^problem a lifetime of 25 h is wanted.*was given 24 h/),
    );
  expect(say([cut], gyre, 24 * hour)).toEqual([expect.stringMatching(/^ok signed/)]);
  // Given what it asked for: that says nothing about more.
  expect(say([asked], gyre, 48 * hour)).toEqual([expect.stringMatching(/^ok signed/)]);
});
