// Opens an age file with npm's age-encryption: no line of ours between it and the bytes.
// usage: node open.mjs IDENTITY-FILE AGE-FILE >PLAINTEXT
import fs from 'node:fs'
import { webcrypto } from 'node:crypto'

if (!globalThis.crypto) globalThis.crypto = webcrypto // Debian's Node 18 hides it behind a flag

const { Decrypter } = await import('age-encryption')
const [identityFile, ageFile] = process.argv.slice(2)
const decrypter = new Decrypter()
decrypter.addIdentity(fs.readFileSync(identityFile, 'utf8').trim())
const plaintext = await decrypter.decrypt(new Uint8Array(fs.readFileSync(ageFile)))
fs.writeSync(1, Buffer.from(plaintext))
