"""The inbox in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from dingqueue_worker.sandbox.client import Space
from support.sandbox import markdown, send, text
from support.waiting import wait_for

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1440,900", "--lang=en-GB"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    yield chromium
    # A page that breaks its own policy, or fails, says so here.
    log = chromium.get_log("browser")  # type: ignore[no-untyped-call]  # selenium has not typed it
    complaints = [line for line in log if "Failed to load resource" not in line["message"]]
    assert complaints == []
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def find(browser: webdriver.Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def messages(browser: webdriver.Chrome) -> list[str]:
    # In one go: the page may change between two questions.
    found: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('.message .bubble')].map((one) => one.innerText.trim())"
    )
    return found


def test_a_message_appears_without_a_reload(space: Space, browser: webdriver.Chrome) -> None:
    robot = space.robot(name="ops", group="运维")
    browser.get(f"{space.url}/")
    assert find(browser, "#nothing")[0].is_displayed()

    send(space, robot, text("磁盘已满 😱"))

    wait_for(lambda: messages(browser) == ["磁盘已满 😱"], what="the message is there")
    assert not find(browser, "#nothing")[0].is_displayed()
    assert "1/20" in find(browser, "#robots")[0].text


def test_a_script_in_a_message_does_nothing(space: Space, browser: webdriver.Chrome) -> None:
    robot = space.robot(name="<img src=x onerror='window.pwned=1'>")
    for words in (
        "<script>window.pwned=1</script>",
        "<img src=x onerror=window.pwned=1>",
        "[x](javascript:window.pwned=1)",
    ):
        send(space, robot, text(words))
        send(space, robot, markdown(words, title=words))

    browser.get(f"{space.url}/")
    wait_for(lambda: len(messages(browser)) == 6, what="all messages are there")

    assert browser.execute_script("return window.pwned") is None
    assert find(browser, ".message img, .message script, .robot img") == []


def test_an_explanation_opens_beside_and_closes(space: Space, browser: webdriver.Chrome) -> None:
    send(space, space.robot(), text("hello"))
    browser.get(f"{space.url}/")

    find(browser, ".message .more")[0].click()
    wait_for(lambda: find(browser, "#panel .steps"), what="the explanation is there")
    assert len(find(browser, "#panel .places i")) == 20
    find(browser, "#panel [data-close]")[0].click()

    assert not find(browser, "#panel")[0].is_displayed()


def test_the_search_works_while_typing(space: Space, browser: webdriver.Chrome) -> None:
    robot = space.robot()
    for words in ("disk full", "all fine"):
        send(space, robot, text(words))
    browser.get(f"{space.url}/")

    find(browser, ".search input")[0].send_keys("disk")
    wait_for(lambda: messages(browser) == ["disk full"], what="only one is left")
    send(space, robot, text("still fine"))
    send(space, robot, text("disk is empty"))

    wait_for(lambda: messages(browser) == ["disk full", "disk is empty"], what="what fits comes in")
    assert "q=disk" in browser.current_url


def test_clearing_asks_first_and_then_forgets(space: Space, browser: webdriver.Chrome) -> None:
    send(space, space.robot(), text("hello"))
    browser.get(f"{space.url}/")

    find(browser, "#reset")[0].click()
    browser.switch_to.alert.accept()

    wait_for(lambda: messages(browser) == [], what="nothing is left")
    assert space.messages(state="any") == []


@pytest.mark.parametrize("width", [360, 390, 768])
def test_it_fits_a_phone(space: Space, browser: webdriver.Chrome, width: int) -> None:
    robot = space.robot(name="a robot with quite a long name", group="一个名字很长很长很长很长很长的群")
    send(space, robot, text("x" * 300 + " https://example.com/" + "y" * 300))
    send(space, robot, markdown("```\n" + "z" * 300 + "\n```\n\n# " + "长" * 100, title="t" * 200))
    for number in range(1, 6):
        space.robot(name=f"robot {number}")
    metrics = {"width": width, "height": 780, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    for path in ("/", "/message/1", "/message/2"):
        browser.get(f"{space.url}{path}")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, path
        chat = browser.execute_script(
            "const c = document.getElementById('chat'); return c ? c.scrollWidth - c.clientWidth : 0"
        )
        assert chat == 0, path
