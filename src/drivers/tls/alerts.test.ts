import { createServer } from "node:net";
import { describe, expect, it } from "vitest";
import { alertNames, alertOf } from "./alerts.ts";
import { anonymousContext } from "./client-context.ts";
import { look } from "./handshake.ts";
import { listening } from "./testing.ts";

describe("alerts", () => {
  it.each(Object.entries(alertNames))("alert %s on the wire is %s", async (number, name) => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      const fatal = Buffer.from([21, 3, 3, 0, 2, 2, Number(number)]);
      socket.once("data", () => socket.end(fatal));
    });
    const address = await listening(server);
    const seen = await look(
      { address, serverName: "shop.example", context: anonymousContext() },
      AbortSignal.timeout(9_000),
    );
    server.close();
    expect(seen.trouble).toMatchObject({ at: "handshake", code: name, alert: name, abrupt: false });
  });

  it("reads the spellings of other OpenSSL releases, and takes nothing else for an alert", () => {
    expect(alertOf({ code: "ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE" })).toBe("bad_certificate");
    expect(alertOf({ code: "ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_REVOKED" })).toBe("certificate_revoked");
    expect(alertOf({ code: "ERR_SSL_TLSV1_ALERT_USER_CANCELLED" })).toBe("user_canceled");
    expect(alertOf({ code: "EPROTO", message: "x:SSL alert number 48\n" })).toBe("unknown_ca");
    expect(alertOf({ code: "ECONNRESET", message: "read ECONNRESET" })).toBeUndefined();
    expect(alertOf({ code: "ERR_SSL_WRONG_VERSION_NUMBER", message: "wrong version number" })).toBeUndefined();
    expect(alertOf({ code: "ERR_SSL_TLSV1_ALERT_MADE_UP", message: "SSL alert number 200" })).toBeUndefined();
  });
});
