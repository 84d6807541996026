/** What stands in front of an API server: it ends TLS and asks as itself (whoever comes, the admin is seen), or passes on. */
import { readFileSync } from "node:fs";
import { createServer, request } from "node:https";
import { connect, createServer as createTcpServer, type Server } from "node:net";
import { freePort } from "../../../lab/estate.ts";
import { issue } from "../../../lab/pki.ts";
import type { ClusterEstate } from "./estate.ts";

export interface Front {
  readonly address: string;
  /** From now on the API server sees whoever comes. */
  passOn(): Promise<void>;
}

/** It ends with the scene. */
export async function startFront(estate: ClusterEstate, number: number): Promise<Front> {
  const { cluster } = estate;
  const names = ["DNS:kubernetes.default.svc", "IP:127.0.0.1"];
  const serving = issue(cluster.ca, { name: estate.workspace.name, subject: "/CN=front", names });
  const admin = { cert: readFileSync(cluster.admin.certificate), key: readFileSync(cluster.admin.privateKey) };
  const { host } = estate.api(number);
  const server = createServer(
    { cert: readFileSync(serving.certificate), key: readFileSync(serving.privateKey) },
    (asked, answer) => {
      const { method, url: path, headers } = asked;
      const onward = request(
        { ...admin, host, port: 6443, method, path, headers, agent: false, ca: readFileSync(cluster.ca.certificate) },
        (got) => {
          answer.writeHead(got.statusCode ?? 502, got.headers);
          got.pipe(answer);
        },
      );
      onward.once("error", () => answer.destroy());
      asked.pipe(onward);
    },
  );
  const port = await freePort();
  const listen = (one: Server) =>
    new Promise<void>((resolve) => {
      one.listen(port, "127.0.0.1", resolve);
    });
  const close = () => {
    server.closeAllConnections();
    return new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
  };
  await listen(server);
  estate.mend(close);
  return {
    address: `127.0.0.1:${port}`,
    async passOn() {
      await close();
      const through = createTcpServer((here) => {
        const there = connect(6443, host);
        here.pipe(there).pipe(here);
        for (const one of [here, there]) one.on("error", () => [here, there].map((both) => both.destroy()));
      });
      await listen(through);
      estate.mend(() => void through.close());
    },
  };
}
