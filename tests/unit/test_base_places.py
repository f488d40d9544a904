"""Places for uploads: no more than there are, and no device has all of them."""

import asyncio

from base.places import SHARE, Places
from wire.ids import DeviceId

MOST = 8
GREEDY, OTHER = DeviceId(b"g" * 32), DeviceId(b"o" * 32)


def test_one_device_leaves_places_to_the_others() -> None:
    """However many uploads it has open, and however slowly they come."""

    async def story() -> None:
        places, go = Places(MOST), asyncio.Event()
        entered: asyncio.Queue[DeviceId] = asyncio.Queue()

        async def upload(device: DeviceId) -> None:
            async with places.one(device):
                entered.put_nowait(device)
                await go.wait()

        slow = [asyncio.create_task(upload(GREEDY)) for _ in range(3 * MOST)]
        assert [await entered.get() for _ in range(MOST // SHARE)] == [GREEDY] * (MOST // SHARE)
        quick = asyncio.create_task(upload(OTHER))
        assert await entered.get() == OTHER
        assert entered.empty()
        go.set()
        await asyncio.gather(*slow, quick)

    asyncio.run(asyncio.wait_for(story(), 20))


def test_there_are_no_more_than_there_are_and_nobody_is_remembered() -> None:
    """Many devices at once share what there is; afterwards nothing of them is kept."""

    async def story() -> int:
        places, now, highest = Places(MOST), 0, 0

        async def upload(device: DeviceId) -> None:
            nonlocal now, highest
            async with places.one(device):
                now += 1
                highest = max(highest, now)
                await asyncio.sleep(0)
                now -= 1

        devices = [DeviceId(bytes([number]) * 32) for number in range(50)]
        await asyncio.gather(*(upload(each) for each in devices for _ in range(3)))
        assert len(places) == 0
        return highest

    assert asyncio.run(asyncio.wait_for(story(), 20)) == MOST
