// Verifies an access token with jose, a library that is not Signalbox's: argv are the directory of node_modules, the URL of the key set, the
// issuer and the token. It fetches the keys itself, and prints what it made of the token.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [home, keys, issuer, token] = process.argv.slice(2)
const jose = await import(pathToFileURL(createRequire(home + '/').resolve('jose')))
try {
  const { payload, protectedHeader } = await jose.jwtVerify(token, jose.createRemoteJWKSet(new URL(keys)), {
    issuer, audience: issuer, typ: 'at+jwt', algorithms: ['ES256'], requiredClaims: ['exp', 'iat', 'jti', 'sub', 'client_id', 'scope'],
  })
  console.log(JSON.stringify({ payload, protectedHeader }))
} catch (e) {
  console.log(JSON.stringify({ refused: e.code }))
}
