/** The thread of the model: takes requests, gives them turns, and sends their answers. */
import {
  type AnswerHead,
  streamedEnd,
  streamedPart,
  type StreamedPiece,
  wholeAnswer,
  type WholeText,
} from "./answers.ts";
import { Client } from "./client.ts";
import { complete, type Engine, type ScoredToken, type TextEnd, type TextPiece } from "./completion.ts";
import { type Asked, type CompletionKind, type Refusal, RefusedError, type ServerState } from "./messages.ts";
import { addCounts, countSavings } from "./metrics.ts";
import { TurnQueue } from "./queue.ts";
import { openEncoder } from "./encoder.ts";
import { Formats } from "./grammar/formats.ts";
import { type CompletionRequest, limitsOf, readRequest, type RequestTools } from "./request.ts";
import { detokenize, tokenize } from "./tokens.ts";
import { CallGate, findCalls } from "./tools.ts";

interface ServiceOptions {
  /** Engines of one model, by the names that clients ask for. */
  readonly engines: ReadonlyMap<string, Engine>;
  /** Texts that are computed together, at most. */
  readonly together: number;
  /** Requests that may wait besides them. */
  readonly waiting: number;
  /** Called when the state has changed. */
  readonly onState: (state: ServerState) => void;
  /** Called with errors of the server itself. */
  readonly onError: (error: unknown) => void;
}

/** One text of a request: its prompt, and its number among the texts for it. */
interface Wanted {
  readonly prompt: Int32Array<ArrayBuffer>;
  readonly copy: number;
}

const textsOf = ({ prompts, n }: CompletionRequest) =>
  prompts.flatMap((prompt) => Array.from({ length: n }, (_, copy): Wanted => ({ prompt, copy })));

export class Service implements Disposable {
  readonly #options: ServiceOptions;
  readonly #tools: RequestTools;
  readonly #turns: TurnQueue;
  readonly #totals: { [model: string]: { [count: string]: number } };

  constructor(options: ServiceOptions) {
    const { engines, together, waiting, onState } = options, names = [...engines.keys()];
    const { model, tokenizer } = engines.values().next().value!;
    this.#options = options;
    this.#tools = {
      ...{ tokenizer, encoder: openEncoder(tokenizer), formats: new Formats(tokenizer) },
      limits: limitsOf(names, model.config, tokenizer),
    };
    this.#totals = Object.fromEntries(names.map((name) => [name, {}]));
    this.#turns = new TurnQueue(together, waiting, () => onState(this.state));
  }

  [Symbol.dispose](): void {
    this.#tools.encoder[Symbol.dispose]();
  }

  get state(): ServerState {
    return { running: this.#turns.running, waiting: this.#turns.waiting, totals: this.#totals };
  }

  /** Answers a request; it never throws. */
  async take({ kind, body, client: port }: Asked): Promise<void> {
    const client = new Client(port), { onError } = this.#options;
    try {
      if (kind === "tokenize" || kind === "detokenize") {
        const answer = await { tokenize, detokenize }[kind](body, this.#tools);
        client.begin("application/json");
        await client.send(JSON.stringify(answer));
        return client.end("whole");
      }
      const request = await readRequest(kind, body, this.#tools);
      this.#turns.expectRoom();
      client.begin(request.stream ? "text/event-stream" : "application/json");
      await this.#answer(request, client);
      client.end("whole");
    } catch (error) {
      if (client.signal.aborted && error === client.signal.reason) return;
      const refusal = refusalOf(error);
      if (refusal.status === 500) onError(error);
      if (client.hasBegun) client.end("broken");
      else client.refuse(refusal);
    }
  }

  async #answer(request: CompletionRequest, client: Client): Promise<void> {
    const turn = await this.#turns.take(client.signal);
    const engine = this.#options.engines.get(request.model)!, head = headOf(request, engine);
    if (!request.stream) {
      const texts = await this.#makeAll(engine, request, client.signal, turn);
      return await client.send(JSON.stringify(wholeAnswer(head, request, engine.tokenizer, texts)));
    }
    using _ = turn;
    const ends: TextEnd[] = [];
    const send = (part: unknown) => client.send(`data: ${JSON.stringify(part)}\n\n`, turn);
    for (const [index, text] of textsOf(request).entries()) {
      let offset = 0;
      const part = async (piece: StreamedPiece) => {
        await send(streamedPart(head, request, engine.tokenizer, index, piece, offset));
        offset += piece.text.length;
      };
      const gate = request.tools?.areFound ? new CallGate() : undefined;
      const end = await this.#make(engine, request, text, client.signal, async (piece) => {
        const shown = gate === undefined ? piece.text : gate.pass(piece.text);
        if (shown !== "" || piece.tokens.length > 0) await part({ ...piece, text: shown });
      });
      const held = gate?.held ?? "";
      const calls = request.tools && end.finish === "stop"
        ? findCalls(held, request.tools)?.calls
        : undefined;
      if (calls) await part({ text: "", tokens: [], calls });
      else if (held !== "") await part({ text: held, tokens: [] });
      await part({ text: "", tokens: [], finish: calls ? "tool_calls" : end.finish });
      ends.push(end);
    }
    if (request.includeUsage) await send(streamedEnd(head, request, ends));
    await client.send("data: [DONE]\n\n", turn);
  }

  /** Makes all texts of a request, and several at once while no process waits for a turn. */
  async #makeAll(
    engine: Engine,
    request: CompletionRequest,
    signal: AbortSignal,
    turn: Disposable,
  ): Promise<WholeText[]> {
    const wanted = textsOf(request), made: WholeText[] = [];
    let next = 0, failed: unknown;
    const work = async (own: Disposable): Promise<void> => {
      const others: Promise<void>[] = [];
      try {
        using _ = own;
        while (next < wanted.length && !failed && (own === turn || this.#turns.waiting === 0)) {
          const index = next++, spare = next < wanted.length ? this.#turns.spare() : undefined;
          if (spare !== undefined) others.push(work(spare));
          const tokens: ScoredToken[] = [];
          let text = "";
          const end = await this.#make(engine, request, wanted[index]!, signal, (piece) => {
            text += piece.text;
            tokens.push(...piece.tokens);
          });
          made[index] = { text, tokens, end };
        }
      } catch (error) {
        failed ??= error;
      }
      await Promise.all(others);
    };
    await work(turn);
    if (failed) throw failed;
    return made;
  }

  /** Makes one text, and counts its tokens and savings. */
  async #make(
    engine: Engine,
    request: CompletionRequest,
    { prompt, copy }: Wanted,
    signal: AbortSignal,
    take: (piece: TextPiece) => void | Promise<void>,
  ): Promise<TextEnd> {
    const pieces = complete(engine, request, prompt, copy, signal);
    try {
      let step: IteratorResult<TextPiece, TextEnd>;
      while (!(step = await pieces.next()).done) await take(step.value);
      const { tokens, usage } = step.value, counts = this.#totals[request.model]!;
      addCounts(counts, { prompt_tokens: prompt.length, completion_tokens: tokens, ...countSavings(usage) });
      return step.value;
    } finally {
      await pieces.return(undefined as never);
    }
  }
}

const PREFIX: { readonly [kind in CompletionKind]: string } = { text: "cmpl", chat: "chatcmpl" };

const headOf = ({ kind, model }: CompletionRequest, { model: { backend } }: Engine): AnswerHead => ({
  id: `${PREFIX[kind]}-${crypto.randomUUID()}`,
  created: Math.floor(Date.now() / 1000),
  model,
  system_fingerprint: `matmul ${backend.products ?? "exact"}`,
});

function refusalOf(error: unknown): Refusal {
  if (error instanceof RefusedError) return error.refusal;
  return { status: 500, message: "Cannot answer: the server failed; see its log" };
}
