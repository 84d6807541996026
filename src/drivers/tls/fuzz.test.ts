import { expect, it } from "vitest";
import { buffers, fuzz, INPUTS, TEXT } from "../../../test/fuzz/fuzz.ts";
import { ReplyReader, type ReplyState } from "./reply.ts";

const head = (...lines: string[]) => `${["HTTP/1.1 200 OK", ...lines].join("\r\n")}\r\n\r\n`;
const replies = [
  `${head("Content-Length: 5", "Server: nginx")}hello`,
  `${head("Transfer-Encoding: chunked")}5\r\nhello\r\n3;a=b\r\nyou\r\n0\r\nX-Trailer: 1\r\n\r\n`,
  `${head("Connection: close", "X-A: 1", "x-a: 2")}until the end`,
  `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${head("Content-Length: 2, 2")}ok`,
  "HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
  "HTTP/1.1 204 No Content\r\n\r\n",
];
const pieces = [
  ...TEXT,
  ...buffers(["\r\n\r\n", "0\r\n\r\n", "HTTP/1.1 ", "Content-Length: 9\r\n", "fffffff\r\n", ", "]),
];

/** The state before and after the peer closed, fed in pieces of the given sizes. */
function feed(input: Buffer, method: "GET" | "HEAD", size: () => number): [ReplyState, ReplyState] {
  const reader = new ReplyReader(method);
  for (let at = 0; at < input.length; ) {
    const next = at + size();
    reader.push(input.subarray(at, next));
    at = next;
  }
  return [reader.state, reader.end()];
}

it("a damaged reply is complete, broken or not yet there, and the same however it is cut into packets", () => {
  const seen = fuzz({
    seed: 31,
    inputs: buffers(replies),
    pieces,
    ends: ["complete", "complete in chunks", "complete by closing", "broken", "cut off"],
    read(input, pick) {
      const method = pick(8) === 0 ? "HEAD" : "GET";
      const whole = feed(input, method, () => input.length);
      const parts = feed(input, method, () => 1 + pick(40));
      expect(parts).toEqual(whole);
      const [before, after] = whole;
      if (after.is === "complete") {
        const { status, body, length } = after.reply;
        expect(status).toBeGreaterThanOrEqual(200);
        // No octet of a body is made up.
        expect(body.length).toBe(length);
        expect(length).toBeLessThan(input.length);
        if (before.is !== "complete") return "complete by closing";
        return method === "GET" && after.reply.headers.has("transfer-encoding") ? "complete in chunks" : "complete";
      }
      return before.is === "more" ? "cut off" : after.is;
    },
  });
  // Not by chance: a reader that knows no chunks, say, would still meet a 204 that speaks of them.
  for (const [end, times] of Object.entries(seen)) expect(times, end).toBeGreaterThan(INPUTS / 100);
});
