from gateway.live_view.worker_board import FORGOTTEN_AFTER_S, SILENT_AFTER_S, WorkerBoard
from services.core.load import WorkerHeartbeat, WorkerLoad, WorkerState

LOAD = WorkerLoad(8, 2, 1, 90, 100, 32, 40)


def heartbeat(name: str, state: WorkerState = WorkerState.READY) -> WorkerHeartbeat:
    return WorkerHeartbeat(name, "127.0.0.1:1", "m", state, 1, LOAD)


def states(board: WorkerBoard, now_s: float) -> dict[str, str]:
    return {seen.heartbeat.worker_id: seen.state for seen in board.workers(now_s)}


def test_a_worker_is_as_it_says_until_it_is_silent():
    board = WorkerBoard()
    board.hear(heartbeat("b", WorkerState.DRAINING), 0.0)
    board.hear(heartbeat("a"), 0.0)
    assert states(board, 1.0) == {"a": "ready", "b": "draining"}
    assert states(board, SILENT_AFTER_S + 0.1) == {"a": "silent", "b": "silent"}


def test_a_worker_that_is_long_gone_is_forgotten():
    board = WorkerBoard()
    board.hear(heartbeat("a"), 0.0)
    assert states(board, FORGOTTEN_AFTER_S + 1) == {}
