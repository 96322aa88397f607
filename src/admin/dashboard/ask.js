// Asks the server, which is where the page is from.

/** How long an answer may take. */
const TIMEOUT = 10_000;

/** An answer that is a refusal, with what helps. */
export class AskError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The JSON at `path`. */
export async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT) });
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

/** Shows the token, and gets a cookie for it. */
export async function login(token) {
  const answer = await fetch("login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token }),
    signal: AbortSignal.timeout(TIMEOUT),
  });
  if (!answer.ok) throw await refusal(answer);
}

async function refusal(answer) {
  const told = await answer.json().catch(() => ({}));
  const text = told.error ?? `status ${answer.status}`;
  return new AskError(answer.status, told.help ? `${text}; ${told.help}` : text);
}
