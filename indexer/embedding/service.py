"""The embedding service: one process that holds the models. No Django, no database, no network besides its socket.

POST /packed?lane=query|bulk   token ids in, vectors out, in the protocol of wire.py
POST /rerank                   how well texts answer a query, in the protocol of wire.py; only with --reranker
GET  /info                     what runs here
GET  /health                   200 while it works, also under load
Errors are JSON {error, error_type} with the types of wire.ErrorType. There is no access control: keep the socket
private (a unix socket is only open to the user who started the service).
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from indexer.embedding import listen, wire
from indexer.embedding.backends import BACKENDS, RERANKERS
from indexer.embedding.backends.base import Reranker
from indexer.embedding.engine import Engine, Overloaded
from indexer.embedding.models import BUILT_IN, find_reranker
from indexer.embedding.tokenizer import ModelTokenizer, PairTokenizer
from indexer.embedding.wire import ErrorType, Rejected
from ragplat.errors import BadInput, EmbedderUnavailable, RagplatError
from ragplat.paths import run_dir

DRAIN_SECONDS = 30  # how long requests under way may take after SIGTERM
KEEP_ALIVE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The models of a service, ready to work."""

    engine: Engine
    info: Mapping[str, Any]  # what /info says
    pairs: PairTokenizer | None  # of the reranker, if there is one


def load(model: str, max_tokens: int | None, threads: int, reranker: str = "") -> Loaded:
    """Load ``model``, and the cross-encoder ``reranker`` unless "". Raises BadInput or BadSetting with the cure."""
    tokenizer = ModelTokenizer.load(model, max_tokens)
    files = tokenizer.files
    backend = BACKENDS.get(files.backend)
    pairs = PairTokenizer(find_reranker(reranker)) if reranker else None
    engine = Engine(
        lambda: backend(files, threads=threads),
        lambda: RERANKERS.get(pairs.files.backend)(pairs.files, threads=threads) if pairs else None,
    )
    embedder = engine.embedder
    info = {
        "model": files.name,
        "revision": embedder.revision,
        "backend": embedder.name,
        "precision": embedder.precision,
        "dimensions": embedder.dimensions,
        "max_tokens": tokenizer.max_tokens,
        "vocabulary": files.vocabulary,
        "tokenizer": tokenizer.signature(),
        "fingerprint": embedder.signature(),
        "reranker": _reranker_info(pairs, engine.reranker) if pairs else None,
    }
    return Loaded(engine=engine, info=info, pairs=pairs)


def _reranker_info(pairs: PairTokenizer, reranker: Reranker) -> dict[str, Any]:
    return {
        "model": pairs.files.name,
        "revision": reranker.revision,
        "backend": reranker.name,
        "precision": reranker.precision,
        "max_tokens": pairs.max_tokens,
        "fingerprint": reranker.signature(),
    }


def create_app(loaded: Loaded) -> Starlette:
    """The ASGI app over the models; it closes their engine when it stops."""
    engine, info = loaded.engine, loaded.info

    async def packed(request: Request) -> Response:
        lane = request.query_params.get("lane", "bulk")
        if lane not in wire.LANES:
            raise Rejected(ErrorType.MALFORMED, 400, f'The lane is "{lane}". Allowed: {", ".join(wire.LANES)}.')
        body = await _body(request, wire.MAX_BODY)
        ids = wire.unpack(body, vocabulary=info["vocabulary"], max_tokens=info["max_tokens"])
        vectors = await _result(request, engine.submit(ids, lane))
        headers = {wire.FINGERPRINT_HEADER: info["fingerprint"]}
        return Response(vectors.astype("<f4").tobytes(), media_type="application/octet-stream", headers=headers)

    async def rerank(request: Request) -> Response:
        wanted = wire.rerank_request(await _body(request, wire.MAX_RERANK_BODY))
        _check_reranker(wanted.model, info["reranker"])
        pairs, cut = await asyncio.to_thread(loaded.pairs.encode, wanted.query, wanted.texts)
        wire.check_rerank_tokens(sum(map(len, pairs)))
        scores = await _result(request, engine.rerank(pairs))
        found = [{"index": int(i), "score": float(scores[i])} for i in np.argsort(-scores, kind="stable")]
        headers = {wire.FINGERPRINT_HEADER: info["reranker"]["fingerprint"], wire.CUT_HEADER: str(cut)}
        return JSONResponse(found, headers=headers)

    async def describe(request: Request) -> Response:
        return JSONResponse(info)

    async def health(request: Request) -> Response:
        if not engine.alive:
            return _error("The engine has stopped. Restart the service.", ErrorType.BACKEND, 503)
        return JSONResponse({"status": "ok"})

    @asynccontextmanager
    async def lifespan(app: Starlette):
        yield
        await asyncio.to_thread(engine.close)

    routes = [
        Route("/packed", packed, methods=["POST"]),
        Route("/rerank", rerank, methods=["POST"]),
        Route("/info", describe),
        Route("/health", health),
    ]
    handlers = {HTTPException: _no_endpoint, RagplatError: _failure, ClientDisconnect: _gone, Exception: _failure}
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


def _check_reranker(wanted: str, running: Mapping[str, Any] | None) -> None:
    """Raise Rejected unless the reranker that is running, if any, is the one wanted ("": any)."""
    if running is None:
        raise Rejected(
            ErrorType.NO_RERANKER,
            404,
            "The embedding service runs no reranker. Set RAGPLAT_RERANK_MODEL, or start the service with --reranker.",
        )
    if wanted and Path(wanted).name != running["model"]:
        raise Rejected(
            ErrorType.NO_RERANKER,
            404,
            f"The embedding service runs the reranker {running['model']}, not {wanted}. Set RAGPLAT_RERANK_MODEL to "
            f"{wanted}, or name {running['model']} in the answer recipe.",
        )


async def _body(request: Request, most: int) -> bytes:
    """The request body. Raises Rejected as soon as it is over ``most`` bytes, whatever its headers say."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise Rejected(ErrorType.TOO_LARGE, 413, f"The body is over {most} bytes. Send fewer texts.")
    return bytes(body)


async def _result(request: Request, future) -> np.ndarray:
    """What an engine computes, or ClientDisconnect, with the work dropped, when nobody waits for it any more."""
    computed = asyncio.ensure_future(asyncio.wrap_future(future))
    gone = asyncio.ensure_future(request.receive())  # the body is read: only "http.disconnect" can follow
    try:
        await asyncio.wait({computed, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not computed.done():
            raise ClientDisconnect
        return computed.result()
    finally:
        gone.cancel()
        computed.cancel()


def _error(message: str, error_type: ErrorType, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": message, "error_type": error_type}, status_code=status, headers=headers)


async def _no_endpoint(request: Request, error: Exception) -> Response:
    return _error(f"{request.method} {request.url.path}: {error.detail}.", ErrorType.NOT_FOUND, error.status_code)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _failure(request: Request, error: Exception) -> Response:
    if isinstance(error, Rejected):
        return _error(str(error), error.error_type, error.status)
    if isinstance(error, BadInput):
        return _error(str(error), ErrorType.MALFORMED, error.status)
    if isinstance(error, Overloaded):
        return _error(str(error), ErrorType.OVERLOADED, error.status, {"retry-after": str(error.retry_after)})
    if isinstance(error, EmbedderUnavailable):
        return _error(str(error), ErrorType.STOPPING, error.status)
    return _error(f"The model failed: {type(error).__name__}: {error}", ErrorType.BACKEND, 500)


def main(arguments: list[str] | None = None) -> None:
    """Run the service until SIGTERM or SIGINT; exits with 1 and a sentence when it cannot start."""
    options = _options(arguments)
    # Read when torch is loaded. OpenMP's threads spin while they wait for each other: with its default of 300,000
    # rounds a short query takes 60 times as long where cores are shared with PostgreSQL and a worker; not spinning at
    # all costs it a third on an idle machine (docs/log.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn drains first, then raises the signal again
    try:
        _serve(options)
    except RagplatError as error:
        sys.exit(f"The embedding service cannot start. {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _serve(options: argparse.Namespace) -> None:
    import uvicorn

    started = time.perf_counter()
    # Listening first means that a second service fails at once and that early requests wait instead of failing.
    with listen.on_tcp(options.host, options.port) if options.port else listen.on_unix(options.uds) as (sock, url):
        loaded = load(options.model, options.max_tokens, options.threads, options.reranker)
        config = uvicorn.Config(
            create_app(loaded),
            log_level="warning",
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        seconds = time.perf_counter() - started
        print(f"Embedding service at {url}, ready after {seconds:.1f} s: {loaded.info['fingerprint']}", flush=True)
        if loaded.pairs:
            print(f"Reranker: {loaded.info['reranker']['fingerprint']}", flush=True)
        uvicorn.Server(config).run(sockets=[sock])


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m indexer.embedding.service", description="The embedding service.")
    add = parser.add_argument
    add("--model", default=BUILT_IN, help="built-in name, folder, cached Hugging Face name, or hashing (%(default)s)")
    add("--max-tokens", type=int, help="longest text, special tokens included (default: as the model declares)")
    add("--reranker", default="", help="cross-encoder: folder, cached Hugging Face name, or overlap (default: none)")
    add("--uds", type=Path, help="listen on this unix socket (default: run/embed.sock under RAGPLAT_VAR_DIR)")
    add("--host", default="127.0.0.1", help="address for --port; nobody is asked for a password (%(default)s)")
    add("--port", type=int, help="listen on TCP instead of the unix socket")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads (%(default)s)")
    options = parser.parse_args(arguments)
    if options.uds and options.port:
        parser.error("--uds and --port exclude each other")
    if options.threads < 1:
        parser.error(f"--threads is {options.threads}; at least 1 is needed")
    if not options.port:
        options.uds = options.uds or run_dir() / "embed.sock"
    return options


if __name__ == "__main__":
    main()
