"""The service's wire types read and written with nothing in between, in two ways.

`/raw/reward` reads the raw body and writes a ready-made reply: what a route cannot go below.
`/default/reward` is FastAPI's own way: the body in the signature, the reply as its return type.
The reply is given beforehand, by `PUT /reply`.
"""

from fastapi import FastAPI, Request, Response

from medreward.http.schemas import RewardReply, RewardRequest

app = FastAPI()


@app.get("/livez")
async def livez() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "alive"}


@app.put("/reply")
async def keep_reply(request: Request) -> None:
    """Keep the reply that is given from now on."""
    app.state.reply = RewardReply.model_validate_json(await request.body())


@app.post("/raw/reward")
async def raw(request: Request) -> Response:
    """Read the raw body, write the reply."""
    RewardRequest.model_validate_json(await request.body())
    reply: RewardReply = app.state.reply
    return Response(reply.model_dump_json(), media_type="application/json")


@app.post("/default/reward")
async def default(_body: RewardRequest) -> RewardReply:
    """Let FastAPI read and write."""
    reply: RewardReply = app.state.reply
    return reply
