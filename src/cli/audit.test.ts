import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { issue, makeAuthority, type Pair } from "../../lab/pki.ts";
import { main } from "./main.ts";

let dir: string;
let server: Pair;
let ca: Buffer;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "gyre-cli-audit-"));
  const authority = makeAuthority(dir, { name: "ca" });
  server = issue(authority, { name: "server" });
  ca = readFileSync(authority.certificate);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function run(...args: string[]) {
  const said = { out: "", err: "" };
  const end = new AbortController();
  const write = (where: "out" | "err") => ({
    write(text: string) {
      said[where] += text;
    },
  });
  const options = ["--certificate", server.certificate, "--key", server.privateKey, "--directory", "audit"];
  const host = { out: write("out"), err: write("err"), env: {}, cwd: dir, now: () => 0, interrupt: () => end.signal };
  const exit = main(["audit", "receive", ...options, ...args], host);
  return { said, end, exit };
}

function post(address: string, body: string): Promise<number> {
  const [host, port] = address.split(":");
  return new Promise((answered, failed) => {
    const options = { host, port, ca, agent: false, method: "POST", path: "/api-1", servername: "localhost" };
    const asking = request(options, (response) =>
      response.resume().once("end", () => answered(response.statusCode ?? 0)),
    );
    asking.once("error", failed).end(body);
  });
}

it("gyre audit receive writes what is posted, says what it did not take, and ends when told to", async () => {
  const { said, end, exit } = run("--listen", "127.0.0.1:0");
  await expect.poll(() => said.out).toMatch(/https:\/\/\S+/);
  const address = /https:\/\/([^/]+)/.exec(said.out)![1]!;
  const items = [{ auditID: "a", stage: "ResponseComplete" }];
  expect(await post(address, JSON.stringify({ kind: "EventList", apiVersion: "audit.k8s.io/v1", items }))).toBe(200);
  expect(await post(address, "x")).toBe(400);
  expect(said.err).toMatch(/not received: .*the body is not JSON/);
  end.abort();
  expect(await exit).toBe(0);
  expect(readFileSync(join(dir, "audit", "api-1.jsonl"), "utf8")).toMatch(/^\{"kind":"Event".*\}\n$/);
});

it("gyre audit receive refuses what it cannot listen at", async () => {
  const { said, exit } = run("--listen", "nonsense");
  expect(await exit).toBe(2);
  expect(said.err).toMatch(/nonsense is not HOST:PORT; nothing was begun/);
});
