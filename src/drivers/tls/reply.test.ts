import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ReplyReader, type ReplyState } from "./reply.ts";

function read(text: string, method: "GET" | "HEAD" = "GET", sizes: readonly number[] = []): ReplyState {
  const reader = new ReplyReader(method);
  const bytes = Buffer.from(text, "latin1");
  let at = 0;
  for (const size of sizes) {
    reader.push(bytes.subarray(at, at + size));
    at += size;
  }
  reader.push(bytes.subarray(at));
  return reader.end();
}
const head = (...lines: string[]) => `${["HTTP/1.1 200 OK", ...lines].join("\r\n")}\r\n\r\n`;

describe("a complete reply", () => {
  it.each([
    ["by Content-Length", head("Content-Length: 2"), "ok"],
    ["by Content-Length, with more behind it", head("content-length:2"), "ok, and more"],
    ["by Content-Length said twice alike", head("Content-Length: 2, 2"), "ok"],
    ["in chunks", head("Transfer-Encoding: chunked"), "1\r\no\r\n1;x=y\r\nk\r\n0\r\nTrailer: x\r\n\r\n"],
    ["by the end of the connection", head("Connection: close"), "ok"],
    ["after an interim reply", `HTTP/1.1 103 Early Hints\r\n\r\n${head("Content-Length: 2")}`, "ok"],
  ])("ends %s", (_, start, rest) => {
    const state = read(start + rest);
    expect(state).toMatchObject({ is: "complete", reply: { status: 200 } });
    if (state.is === "complete") expect(state.reply.body).toBe("ok");
  });

  it("has no body for HEAD, 204 and 304", () => {
    expect(read(head("Content-Length: 9"), "HEAD")).toMatchObject({ is: "complete", reply: { length: 0 } });
    expect(read("HTTP/1.1 204 No Content\r\n\r\n")).toMatchObject({ is: "complete", reply: { status: 204 } });
    expect(read("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")).toMatchObject({ is: "complete" });
  });

  it("keeps 16 KiB of a long body and counts the rest", () => {
    const state = read(`${head("Content-Length: 100000")}${"x".repeat(100_000)}`);
    expect(state).toMatchObject({ is: "complete", reply: { length: 100_000 } });
    if (state.is === "complete") expect(state.reply.body.length).toBe(16 * 1024);
  });

  it("joins repeated headers and lowers their names", () => {
    const state = read(head("X-Who: a", "x-who:  b ", "Content-Length: 0"));
    expect(state.is === "complete" && state.reply.headers.get("x-who")).toBe("a, b");
  });
});

describe("no complete reply", () => {
  it.each([
    ["nothing", ""],
    ["a cut head", "HTTP/1.1 200 OK\r\nContent-Le"],
    ["a cut body", `${head("Content-Length: 3")}ok`],
    ["a cut chunk", `${head("Transfer-Encoding: chunked")}5\r\nok`],
    ["chunks without an end", `${head("Transfer-Encoding: chunked")}2\r\nok\r\n`],
    ["a chunk longer than it said", `${head("Transfer-Encoding: chunked")}1\r\nok\r\n0\r\n\r\n`],
    ["a chunk size that is none", `${head("Transfer-Encoding: chunked")}zz\r\nok\r\n0\r\n\r\n`],
    ["two lengths", `${head("Content-Length: 2", "Content-Length: 3")}ok`],
    ["length and chunks", `${head("Content-Length: 2", "Transfer-Encoding: chunked")}2\r\nok\r\n0\r\n\r\n`],
    ["a negative length", `${head("Content-Length: -1")}ok`],
    ["a folded header", `${head("A: b\r\n c", "Content-Length: 2")}ok`],
    ["another protocol", "SSH-2.0-OpenSSH_9.2\r\n"],
    ["HTTP/2", "HTTP/2 200\r\n\r\n"],
    ["a switch of protocols", `HTTP/1.1 101 Switching Protocols\r\n\r\n${head("Content-Length: 0")}`],
    ["a head without end", `HTTP/1.1 200 OK\r\n${"A: b\r\n".repeat(20_000)}`],
    ["a body beyond the limit", `${head("Connection: close")}${"x".repeat(9 * 1024 * 1024)}`],
  ])("is made of %s", (_, text) => {
    expect(read(text)).toMatchObject({ is: "broken" });
  });
});

describe("a reply that can no longer become one", () => {
  it.each([
    ["its head is too long", `HTTP/1.1 200 OK\r\n${"A: b\r\n".repeat(20_000)}`],
    ["its chunk line is too long", `${head("Transfer-Encoding: chunked")}${"0".repeat(9_000)}`],
    ["it is not HTTP", "SSH-2"],
  ])("is broken before the connection ends, when %s", (_, text) => {
    expect(new ReplyReader("GET").push(Buffer.from(text))).toMatchObject({ is: "broken" });
  });
});

describe("fuzz", () => {
  const pieces = fc.array(
    fc.oneof(
      fc.constantFrom(
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "Content-Length: 3\r\n",
        "\r\n",
        "abc",
        "3\r\n",
      ),
      fc.constantFrom(
        "Transfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        "ffffffff\r\n",
        "Connection: close\r\n",
        ":",
        "\n",
        "\r",
      ),
      fc.string({ maxLength: 20 }),
    ),
    { maxLength: 10 },
  );
  const sizes = fc.array(fc.nat(40), { maxLength: 8 });

  it("100,000 inputs: never throws, and how the octets are cut does not matter", () => {
    let complete = 0;
    fc.assert(
      fc.property(pieces, sizes, fc.boolean(), (parts, cuts, isHead) => {
        const text = parts.join("");
        const whole = read(text, isHead ? "HEAD" : "GET");
        expect(read(text, isHead ? "HEAD" : "GET", cuts)).toEqual(whole);
        expect(whole.is).not.toBe("more");
        if (whole.is === "complete") complete++;
      }),
      { numRuns: 100_000 },
    );
    // The generator must reach the inside, or the run says nothing.
    expect(complete).toBeGreaterThan(50);
  });

  it("gives back what was sent", () => {
    const body = fc.uint8Array({ maxLength: 200 });
    fc.assert(
      fc.property(body, fc.integer({ min: 200, max: 599 }), fc.boolean(), sizes, (bytes, status, chunked, cuts) => {
        fc.pre(![204, 304].includes(status));
        const text = Buffer.from(bytes).toString("latin1");
        const framed = chunked
          ? `Transfer-Encoding: chunked\r\n\r\n${text === "" ? "" : `${text.length.toString(16)}\r\n${text}\r\n`}0\r\n\r\n`
          : `Content-Length: ${text.length}\r\n\r\n${text}`;
        const state = read(`HTTP/1.1 ${status} X\r\n${framed}`, "GET", cuts);
        expect(state).toMatchObject({ is: "complete", reply: { status, body: text, length: text.length } });
      }),
      { numRuns: 2_000 },
    );
  });
});
