import { isIP } from "node:net";
import { GyreError } from "../../errors.ts";

/** Takes `host:port` or `[v6]:port` apart. Throws `manifest` for anything else, since the settings schema allows no more. */
export function splitAddress(address: string): { readonly host: string; readonly port: number } {
  const found = /^(?:\[([^\]]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(address);
  const host = found?.[1] ?? found?.[2];
  const port = Number(found?.[3]);
  if (host === undefined || !(port > 0 && port < 65_536))
    throw new GyreError({
      code: "manifest",
      message: `tls: ${address} is not host:port; nothing was dialled`,
      where: address,
      next: "write host:port, such as 10.0.0.1:443 or [::1]:8443",
    });
  return { host, port };
}

/** The reverse: brackets around an IPv6 host. */
export function joinAddress(host: string, port: number): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}
