import { expect, it } from "vitest";
import { buffers, fuzz, TEXT } from "../../../test/fuzz/fuzz.ts";
import { type LogServer, readLine } from "./log-line.ts";

const fields = (verify: string, resumed: string) => ({
  ...{ time: 1732470000.123, ssl_client_serial: "0A1B2C", ssl_client_i_dn: "CN=root,O=Lab", ssl_client_verify: verify },
  ...{ ssl_session_reused: resumed, remote_addr: "10.0.0.9", status: 200, http_user_agent: "curl/8" },
});
const lines: Record<LogServer, readonly string[]> = {
  nginx: [
    JSON.stringify(fields("SUCCESS", "r")),
    JSON.stringify({ ...fields("FAILED:certificate revoked", "."), time: "2024-11-24T18:40:00.123+01:00" }),
  ],
  haproxy: [
    `Nov 24 18:40:00 host haproxy[71]: ${JSON.stringify({ ...fields("0", "1"), duration_ms: "250" })}`,
    JSON.stringify(fields("10", "0")),
    "Nov 24 18:40:00 host haproxy[71]: Connect from 10.0.0.1:4711 to 10.0.0.2:443 (fe/HTTP)",
  ],
};
const WORDS = { nginx: "SUCCESS", haproxy: "0" } as const;

it.each([
  [21, "nginx"],
  [22, "haproxy"],
] as const)(
  "a damaged line is a use, another message or unreadable, and no serial comes from nowhere (seed %i, %s)",
  (seed, server) => {
    fuzz({
      seed,
      inputs: buffers(lines[server]),
      pieces: TEXT,
      ends: ["use", "other", "unreadable"],
      read(input) {
        const text = input.toString("utf8");
        const line = readLine(server, text);
        if (line.is === "use") {
          const { time, status, serial, verified } = line.use;
          expect(Number.isFinite(time) && Number.isInteger(status)).toBe(true);
          // What a use is counted by stands in the line, and only the server's own word makes it a verified one.
          if (!text.includes("\\")) {
            expect(text.toLowerCase().replace(/[:\s]/g, "")).toContain(serial);
            if (verified) expect(text).toMatch(new RegExp(`ssl_client_verify"\\s*:\\s*"?${WORDS[server]}\\b`));
          }
        }
        return line.is;
      },
    });
  },
);
