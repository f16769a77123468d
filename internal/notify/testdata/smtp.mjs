// A mail server that we did not write (npm smtp-server), set up by one JSON argument: secure, starttls, login, key, cert, user, password, auth,
// refuse. It prints its port, then a line of JSON for each mail that it took.
import { createRequire } from "node:module";

const options = JSON.parse(process.argv[2]);
const { SMTPServer } = createRequire(options.home + "/node_modules/")("smtp-server");
const disabled = [];
if (!options.starttls) disabled.push("STARTTLS");
if (!options.user) disabled.push("AUTH");
const server = new SMTPServer({
  secure: options.secure, key: options.key, cert: options.cert, disabledCommands: disabled, authOptional: !options.user,
  authMethods: options.auth ?? ["PLAIN", "LOGIN"], allowInsecureAuth: options.insecure ?? false, logger: false,
  onAuth(auth, session, done) {
    if (auth.username === options.user && auth.password === options.password) return done(null, { user: auth.username });
    done(new Error("the server's own text"));
  },
  onRcptTo(address, session, done) {
    if (options.refuse) return done(Object.assign(new Error("the server's own text"), { responseCode: 550 }));
    done();
  },
  onData(stream, session, done) {
    const parts = [];
    stream.on("data", (part) => parts.push(part));
    stream.on("end", () => {
      console.log(JSON.stringify({
        mail: Buffer.concat(parts).toString("utf8"), from: session.envelope.mailFrom.address, to: session.envelope.rcptTo.map((to) => to.address),
        secure: session.secure, user: session.user ?? "", method: session.transmissionType, hello: session.hostNameAppearsAs,
      }));
      done();
    });
  },
});
server.on("error", () => {});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.server.address().port })));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0)); // the test has ended
