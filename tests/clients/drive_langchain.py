"""`langchain-openai` against a cluster: `make client-langchain`."""

# pyright: reportMissingImports=false
from __future__ import annotations

import openai
from checks import check, main, raised, target
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAI

TARGET = target()
BASE = {"base_url": f"{TARGET.url}/v1", "api_key": TARGET.key, "model": TARGET.model}
SHORT = {"temperature": 0, "max_tokens": 12, "max_retries": 0}
CHAT = ChatOpenAI(**BASE, **SHORT)
ASKED = "Name three colours."


@check
def a_message_has_text_and_usage():
    message = CHAT.invoke(ASKED)
    assert message.content
    assert message.usage_metadata["output_tokens"] > 0
    assert message.response_metadata["finish_reason"] in ("stop", "length")
    assert message.response_metadata["model_name"] == TARGET.model


@check
def a_stream_says_the_same_and_ends_with_usage():
    chunks = list(CHAT.stream(ASKED, stream_usage=True))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.content == CHAT.invoke(ASKED).content
    assert whole.usage_metadata["output_tokens"] > 0


@check
async def async_calls_answer_and_stream():
    message = await CHAT.ainvoke(ASKED)
    text = "".join([chunk.content async for chunk in CHAT.astream(ASKED)])
    assert text == message.content


@check
def a_batch_answers_each():
    answers = CHAT.batch([ASKED, "Name a number.", "Name a city."])
    assert all(answer.content for answer in answers)


@check
def a_conversation_with_roles_is_taken():
    said = [
        SystemMessage("Be short."),
        HumanMessage(ASKED),
        AIMessage("Red."),
        HumanMessage("More."),
    ]
    assert CHAT.invoke(said).content


@check
def a_chain_of_prompt_model_and_parser_works():
    chain = ChatPromptTemplate.from_template("Name three {things}.") | CHAT | StrOutputParser()
    assert chain.invoke({"things": "colours"}) == CHAT.invoke(ASKED).content


@check
def stop_and_logprobs_are_passed_on():
    word = CHAT.invoke(ASKED).content.split()[1]
    assert word not in CHAT.invoke(ASKED, stop=[word]).content
    told = CHAT.bind(logprobs=True, top_logprobs=2).invoke(ASKED).response_metadata["logprobs"]
    assert len(told["content"][0]["top_logprobs"]) == 2


@check
def several_generations_come_from_n():
    model = ChatOpenAI(**BASE, n=2, temperature=1, max_tokens=12, max_retries=0)
    (generations,) = model.generate([[HumanMessage(ASKED)]]).generations
    assert len(generations) == 2


@check
def the_completions_api_answers_several_prompts():
    model = OpenAI(**BASE, temperature=0, max_tokens=6, max_retries=0)
    assert model.invoke("One, two,")
    assert "".join(model.stream("One, two,"))
    result = model.generate(["One, two,", "The sky is"])
    assert len(result.generations) == 2


@check
def the_responses_api_answers_and_streams():
    model = ChatOpenAI(**BASE, temperature=0, max_tokens=16, max_retries=0, use_responses_api=True)
    message = model.invoke(ASKED)
    assert message.text
    assert "".join(chunk.text for chunk in model.stream(ASKED)) == message.text


@check
def tools_are_refused_by_name():
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    exc = raised(openai.BadRequestError, lambda: CHAT.bind(tools=[tool]).invoke(ASKED))
    assert exc.param == "tools"


main()
