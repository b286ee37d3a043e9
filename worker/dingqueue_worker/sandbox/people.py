"""Looking people up: user id, union id, mobile. Free of every quota.

https://open.dingtalk.com/document/development/query-user-details
"""

from __future__ import annotations

import re
from typing import Any

from dingqueue_worker.sandbox.calls import Done, Refused
from dingqueue_worker.sandbox.model import Person
from dingqueue_worker.sandbox.organisation import Call, Route, new_key

_MOBILE = re.compile(r"1[0-9]{10}|\+?[0-9]{1,4}-?[0-9]{4,14}")


def _get(call: Call) -> Done:
    user_id = call.data.get("userid")
    if not isinstance(user_id, str) or not user_id:
        raise Refused(400002, "参数错误: userid", "userid must be a string that is not empty")
    person = call.org.person(user_id, call.rules)
    if person is None:
        raise _nobody(f"nobody has the user id {user_id[:64]}")
    return _answer(
        call,
        {
            "userid": person.user_id,
            "unionid": person.union_id,
            "name": person.name,
            "active": person.active,
            "dept_id_list": [1],
        },
    )


def _get_by_mobile(call: Call) -> Done:
    mobile = call.data.get("mobile")
    if not isinstance(mobile, str) or not _MOBILE.fullmatch(mobile):
        raise Refused(40104, "invalid mobile", "mobile must be a number such as 13800000000")
    person = next((one for one in call.org.people.values() if one.mobile == mobile), None)
    if person is None and call.rules.any_token:
        person = Person(user_id=f"m{mobile}", union_id=f"union-m{mobile}", name=mobile, mobile=mobile)
        call.org.put_person(person)
    if person is None or not person.active:
        raise _nobody("nobody in the organisation has this mobile")
    return _answer(call, {"userid": person.user_id, "exclusive_account_userid_list": []})


def _get_by_union_id(call: Call) -> Done:
    union_id = call.data.get("unionid")
    if not isinstance(union_id, str) or not union_id:
        raise Refused(400002, "参数错误: unionid", "unionid must be a string that is not empty")
    person = call.org.by_union_id(union_id, call.rules)
    if person is None:
        raise _nobody("nobody has this union id")
    return _answer(call, {"userid": person.user_id, "contact_type": 0})


def _nobody(reason: str) -> Refused:
    return Refused(60121, "找不到该用户", reason, step="people")


def _answer(call: Call, result: dict[str, Any]) -> Done:
    return Done(body={"errcode": 0, "errmsg": "ok", "result": result, "request_id": new_key(call.number)[:16]})


ROUTES = (
    Route("POST", "/topapi/v2/user/get", _get, free=True, body="json or form"),
    Route("POST", "/topapi/v2/user/getbymobile", _get_by_mobile, free=True, body="json or form"),
    Route("POST", "/topapi/user/getbyunionid", _get_by_union_id, free=True, body="json or form"),
)
