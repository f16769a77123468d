// Runs the npm package oidc-provider, unmodified, as an OpenID provider with the people that the test says: their claims by their login, which is
// their subject. Its own development pages ask for the login and for consent.
import http from "node:http";
import { Provider } from "oidc-provider";

const { redirects, secret } = JSON.parse(process.env.CLIENT);
const people = new Map();
const server = http.createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: "signalbox", client_secret: secret, redirect_uris: redirects, grant_types: ["authorization_code"], response_types: ["code"] }],
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
    scopes: ["openid", "email", "profile", "groups"],
    cookies: { keys: ["not a secret of anybody"] },
    pkce: { required: () => true },
    findAccount: (_, sub) => people.has(sub) && { accountId: sub, claims: () => ({ sub, ...people.get(sub) }) },
  });
  const answer = provider.callback();
  server.on("request", (req, res) => {
    if (req.method !== "PUT") return answer(req, res);
    let body = "";
    req.on("data", (part) => (body += part));
    req.on("end", () => {
      people.set(req.url.slice(1), JSON.parse(body));
      res.writeHead(204).end();
    });
  });
  console.log(`READY ${issuer}`);
});
process.stdin.resume();
process.stdin.on("end", () => process.exit(0)); // with the test
